// The store side of sessions across users, without a service: what the tests of the tenant's count and index work on.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import pino from "pino";
import { createClient } from "redis";
import type { CallContext } from "../../src/domain/call.ts";
import { PARTITION_COUNT } from "../../src/domain/owner.ts";
import { partitionOfSessionId } from "../../src/domain/session_id.ts";
import { createAdminSessionStore } from "../../src/store/admin_sessions.ts";
import { createStoreConnection } from "../../src/store/connection/connection.ts";
import { parseStoreUrl } from "../../src/store/connection/store_url.ts";
import { createSessionCreator, type NewSession } from "../../src/store/create_session.ts";
import { createDeviceSessionStore } from "../../src/store/device_sessions.ts";
import { PARTITION_TAGS } from "../../src/store/partition_tags.ts";
import { createRegenerationStore } from "../../src/store/regeneration.ts";
import { createScripts } from "../../src/store/scripts.ts";
import type { ListOrder } from "../../src/store/session_lists.ts";
import { RECORD_KIND } from "../../src/store/session_record.ts";
import { createSessionStore } from "../../src/store/simple_sessions.ts";
import { createSweepStore } from "../../src/store/sweep.ts";
import { startRedisServer } from "./redis_server.ts";
import { scanStore } from "./store_scan.ts";

export type TenantStore = Awaited<ReturnType<typeof startTenantStore>>;

const DELETED = { reason: "deleted", revocationReason: "", userId: "", actor: "", note: "" } as const;
const NO_BYTES = new Uint8Array();
const EXPIRE_NOW = `
  local time = redis.call('TIME')
  local past = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) - 1)
  redis.call('DEL', KEYS[1])
  redis.call('ZADD', KEYS[2], 'XX', string.format('%.0f', 4 * past), ARGV[1])
  redis.call('ZADD', KEYS[3], past, ARGV[2])`;

export function callOf(tenant: string): CallContext {
  const principal = { tenant, name: "test", scopes: new Set<never>() };
  return { deadlineMs: performance.now() + 60_000, signal: new AbortController().signal, principal };
}

/** Starts a redis-server, and opens the store twice: `indexed` as SA_TENANT_INDEX=true does, `unindexed` as false does. */
export async function startTenantStore() {
  const redis = await startRedisServer({ socket: true });
  const connection = createStoreConnection({ url: parseStoreUrl(redis.url).url!, log: pino({ level: "silent" }) });
  await connection.whenReady(callOf(""));
  const control = createClient({ socket: { path: redis.socketPath!, tls: false } });
  control.on("error", () => undefined);
  await control.connect();
  const scripts = createScripts({ connection, shebang: true });

  function open(tenantIndex: boolean) {
    const settings = {
      ...{
        touchIntervalMs: 0,
        auditRetentionMs: 3_600_000,
        createRate: undefined,
        rotationGraceMs: 10_000,
        absoluteTimeoutMaxMs: 34_560_000_000,
      },
      tenantIndex,
    };
    const store = { connection, scripts, settings };
    const create = createSessionCreator(store);
    return {
      async create(tenant: string, userId: string, more: Partial<NewSession> = {}): Promise<string> {
        const session = { ...DEFAULT_SESSION, userId, ...more };
        return (await create(session, callOf(tenant))).record.sessionId;
      },
      admin: createAdminSessionStore(store),
      sessions: createSessionStore(store),
      devices: createDeviceSessionStore(store),
      regeneration: createRegenerationStore(store),
      sweep: createSweepStore(store),
    };
  }

  const indexed = open(true);
  return {
    redis,
    control,
    indexed,
    unindexed: open(false),

    async regenerate(tenant: string, id: string, graceMs = 0): Promise<string> {
      const noAddress = { ipAddress: undefined, identity: Buffer.alloc(0), differs: false };
      const regeneration = { sessionId: id, userId: "", graceMs, requestId: "" };
      const regenerated = await indexed.regeneration.regenerate(regeneration, noAddress, callOf(tenant));
      assert.ok("stored" in regenerated);
      return regenerated.stored.record.sessionId;
    },

    remove: (tenant: string, id: string) => indexed.sessions.remove(id, DELETED, callOf(tenant)),

    /** Makes it look as if a timeout had ended the session. */
    async expireNow(tenant: string, userId: string, id: string): Promise<void> {
      const base = `sa:{${PARTITION_TAGS[partitionOfSessionId(id)!]}}:`;
      const owner = `${encodeURIComponent(tenant)}:${encodeURIComponent(userId)}`;
      const keys = [`${base}s:${id}`, `${base}u:${owner}`, `${base}live`];
      await control.eval(EXPIRE_NOW, { keys, arguments: [id, owner] });
    },

    async sweepAll(): Promise<void> {
      // A deadline of this millisecond has not passed.
      await sleep(2);
      const partitions = Array.from({ length: PARTITION_COUNT }, (_, partition) => partition);
      await Promise.all(partitions.map((partition) => indexed.sweep.expire(partition, 10_000, callOf(""))));
    },

    scan: () => scanStore(control as never),

    async close(): Promise<void> {
      await connection.close();
      control.destroy();
      await redis.stop();
    },
  };
}

const DEFAULT_SESSION: NewSession = {
  ...{ userId: "", method: "simple", kind: RECORD_KIND.id, flags: 0, deviceId: "", requestId: "", fields: [] },
  ...{ idleTimeoutMs: 3_600_000, absoluteTimeoutMs: 7_200_000, authenticatedAtMs: 0 },
  ...{ identity: NO_BYTES, data: NO_BYTES, labels: NO_BYTES, authentication: NO_BYTES },
  ...{ maxSessions: 0, limitGroup: "user", onExceed: "reject", actor: "", note: "" },
};

/**
 * Lists a tenant in pages of `pageSize`, each from the position where the page before ended, and calls `between` after each.
 */
export async function listInPages(
  { admin }: TenantStore["indexed"],
  { tenant, order = "newest", pageSize }: { tenant: string; order?: ListOrder; pageSize: number },
  between: () => Promise<unknown> = () => Promise.resolve(),
) {
  const ids: string[] = [];
  const created: number[] = [];
  let position = "";
  let ordered = true;
  for (;;) {
    const list = await admin.list(tenant, { order, userIds: undefined }, position, callOf(tenant));
    ordered &&= list.ordered;
    let taken = 0;
    for await (const { stored, position: next } of list.sessions) {
      ids.push(stored.record.sessionId);
      created.push(stored.record.createdExactMs);
      position = next;
      if (++taken === pageSize) break;
    }
    if (taken < pageSize) return { ids, created, ordered };
    await between();
  }
}
