// Starts whole instances of the service on a real store of the test's own, with a client for each.

import assert from "node:assert/strict";
import type { DestinationStream } from "pino";
import { createClient } from "redis";
import { createLogger } from "../../src/ops/logger.ts";
import { loadConfig } from "../../src/config/config.ts";
import { startServer } from "../../src/server.ts";
import { partitionOfOwner } from "../../src/domain/owner.ts";
import { partitionOfSessionId } from "../../src/domain/session_id.ts";
import { CHANGES_CHANNEL } from "../../src/store/keys.ts";
import { PARTITION_TAGS } from "../../src/store/partition_tags.ts";
import { createAuthorityClient, type AuthorityClient } from "./grpc_client.ts";
import { startRedisServer, type RedisServer } from "./redis_server.ts";
import { scanStore } from "./store_scan.ts";

export type AuthorityOptions = {
  instances?: number;
  touchIntervalMs?: number;
  /** Further SA_* variables. */
  env?: Record<string, string>;
  redisArgs?: readonly string[];
  /** Further environment variables of the store's process. */
  redisEnv?: Readonly<Record<string, string>>;
  /** Receives the log. Default: fatal lines go to stdout. */
  log?: DestinationStream;
};

export type Authorities = Awaited<ReturnType<typeof startAuthorities>>;

/** Starts a store and instances of the service on it; each instance has a client. */
export async function startAuthorities(options: AuthorityOptions = {}) {
  const redis = await startRedisServer({ socket: true, args: options.redisArgs ?? [], env: options.redisEnv ?? {} });
  try {
    return await startOn(redis, options);
  } catch (error) {
    // A running store would keep the test process alive.
    await redis.stop();
    throw error;
  }
}

async function startOn(redis: RedisServer, options: AuthorityOptions) {
  const config = loadConfig({
    SA_STORE_URL: redis.url,
    SA_GRPC_LISTEN: "127.0.0.1:0",
    SA_HTTP_LISTEN: "127.0.0.1:0",
    // The token keys are generated there, and removed with the store.
    SA_DATA_DIR: redis.dataDir,
    SA_LOG_LEVEL: "fatal",
    ...(options.touchIntervalMs === undefined ? {} : { SA_TOUCH_INTERVAL: `${options.touchIntervalMs}ms` }),
    ...options.env,
  });
  const log = createLogger(config, options.log);
  const servers = await Promise.all(Array.from({ length: options.instances ?? 1 }, () => startServer(config, log)));
  const clients: AuthorityClient[] = servers.map((server) => createAuthorityClient(server.addresses.grpc!));
  const control = createClient({ socket: { path: redis.socketPath!, tls: false } });
  control.on("error", () => undefined);
  await control.connect();

  async function storeMs(): Promise<number> {
    const [seconds, micros] = (await control.sendCommand(["TIME"])) as unknown as [string, string];
    return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
  }

  let closed: Promise<void> | undefined;
  async function closeAll(): Promise<void> {
    for (const client of clients) client.close();
    await Promise.all(servers.map((server) => server.close()));
    control.destroy();
    await redis.stop();
  }

  return {
    redis,
    servers,
    clients,
    /** host:port of each instance's HTTP listener. */
    httpAddresses: servers.map((server) => server.addresses.http!),
    control,

    /** Returns the keys of a session's record and fields, if they exist. */
    async keysOfSession(sessionId: string): Promise<string[]> {
      const base = baseOf(sessionId);
      const keys = [`${base}s:${sessionId}`, `${base}f:${sessionId}`];
      const existing = await Promise.all(keys.map(async (key) => ((await control.exists(key)) ? key : undefined)));
      return existing.filter((key) => key !== undefined);
    },

    /** Expires a session now: its record and fields are gone, and its indexes say that its time has passed. */
    async expireNow(sessionId: string): Promise<void> {
      const base = baseOf(sessionId);
      const keys = [`${base}s:${sessionId}`, `${base}f:${sessionId}`, `${base}live`, `${base}log`, `${base}tail`];
      await control.eval(EXPIRE_NOW, { keys, arguments: [CHANGES_CHANNEL] });
    },

    /** Ends the graces of a secure session's former secrets, or the grace of a former id. */
    async passGrace(sessionId: string): Promise<void> {
      await control.eval(PASS_GRACE, { keys: [`${baseOf(sessionId)}s:${sessionId}`] });
    },

    /**
     * Makes the last rotation of a session, or the regeneration of a former id, `ageMs` old: a negative age stays recent for
     * long. Does nothing if there was none.
     */
    async ageRotation(sessionId: string, ageMs: number): Promise<void> {
      const base = baseOf(sessionId);
      const keys = [`${base}g:${sessionId}`, `${base}t:${sessionId}`];
      await control.eval(AGE_ROTATION, { keys, arguments: [String((await storeMs()) - ageMs)] });
    },

    /** Returns the store's time in ms, once it is later than at every command that the store has replied to so far. */
    async nextMs(): Promise<number> {
      const startMs = await storeMs();
      for (;;) {
        const nowMs = await storeMs();
        if (nowMs > startMs) return nowMs;
      }
    },

    /** Returns the names of a user's audit events, oldest first. */
    async auditEvents(userId: string, tenant = "default"): Promise<string[]> {
      const owner = `${encodeURIComponent(tenant)}:${encodeURIComponent(userId)}`;
      const base = `sa:{${PARTITION_TAGS[partitionOfOwner(owner)]}}:`;
      const lists = ["a", "ac", "am"].map((list) => control.lRange(`${base}${list}:${owner}`, 0, -1));
      const entries = (await Promise.all(lists)).flat().map((entry) => entry.split(" "));
      const [ms, n] = [0, 1].map((part) => (id: string) => Number(id.split("-")[part])) as [IdPart, IdPart];
      const inOrder = entries.toSorted(([a], [b]) => ms(a!) - ms(b!) || n(a!) - n(b!));
      return inOrder.map(([, event]) => event!);
    },

    /** Stops the instances and asserts that the store has no stray or inconsistent key. Ends every test file. */
    async assertStoreSound(): Promise<void> {
      await Promise.all(servers.map((server) => server.close()));
      const faults = await scanStore(control as never);
      if (faults.length > 0) await (closed ??= closeAll());
      assert.deepEqual(faults, []);
    },

    close: () => (closed ??= closeAll()),
  };
}

type IdPart = (id: string) => number;

function baseOf(sessionId: string): string {
  return `sa:{${PARTITION_TAGS[partitionOfSessionId(sessionId)!]}}:`;
}

// Offsets are those of src/store/lua/includes/record.lua, counted from 1: a secure session (kind 2) has its secrets before the
// owner. The index entries stay, as after a real expiry, for the sweep to find.
// It works with full memory, too.
const EXPIRE_NOW = `#!lua flags=allow-oom
  local raw = redis.call('GET', KEYS[1])
  local time = redis.call('TIME')
  local past = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) - 1)
  local start = string.byte(raw, 2) == 2 and 98 + 40 * string.byte(raw, 97) or 65
  local owner_length = struct.unpack('>H', raw, 5)
  local owner = string.sub(raw, start, start + owner_length - 1)
  local base, id = string.match(KEYS[1], '^(.-})' .. ':s:(.+)$')
  redis.call('ZADD', KEYS[3], 'LT', past, owner)
  local score = redis.call('ZSCORE', base .. ':u:' .. owner, id)
  -- The low bits say how the session was opened and which timeout comes first.
  redis.call('ZADD', base .. ':u:' .. owner, string.format('%.0f', 4 * past + score % 4), id)
  redis.call('DEL', KEYS[1], KEYS[2])
  -- The change that comes with every deadline. No watcher receives a creation.
  local epoch, seq = string.match(redis.call('GET', KEYS[5]), '^(%d+)%-(%d+)$')
  local tail = epoch .. '-' .. string.format('%.0f', seq + 1)
  redis.call('SET', KEYS[5], tail, 'KEEPTTL')
  local change = table.concat({ tail, 'created', id, owner, '1', past, '/', 'i', '' }, ' ')
  redis.call('XADD', KEYS[4], tail, 'c', change)
  redis.call('PUBLISH', ARGV[1], change)
  return 1`;

// The last rotation is `<ms> <digest>`. The graces of the record stay.
const AGE_ROTATION = `
  local digest = string.match(redis.call('GET', KEYS[1]) or '', '^%d+ (.+)$')
  if digest then redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. digest, 'KEEPTTL') end
  if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('HSET', KEYS[2], 'at', ARGV[1]) end
  return 1`;

// A forward (kind 255) dies with its grace; a secure session's record has the end of each former secret's grace.
const PASS_GRACE = `
  local raw = redis.call('GET', KEYS[1]) or ''
  local kind = string.byte(raw, 2)
  if kind == 255 then redis.call('DEL', KEYS[1]) end
  for i = 1, kind == 2 and string.byte(raw, 97) or 0 do
    if struct.unpack('>d', raw, 90 + 40 * i) > 0 then
      redis.call('SETRANGE', KEYS[1], 89 + 40 * i, struct.pack('>d', 1))
    end
  end
  return 1`;
