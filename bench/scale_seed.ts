// Fills a store with copies of one real session, each with its own user and id. This is faster than calls to the service.

import { createClient } from "redis";
import { partitionOfOwner } from "../src/domain/owner.ts";
import { newSessionId } from "../src/domain/session_id.ts";
import { PARTITION_TAGS } from "../src/store/partition_tags.ts";
import type { RedisServer } from "../test/helpers/redis_server.ts";

const BATCH = 1000;
/** One copy in this many is returned. */
const SAMPLE = 50;

// The owner follows the header of 64 bytes, and all owners have the same length. See record.lua and index.lua in
// src/store/lua/includes.
const COPY = `
  local raw = redis.call('GET', KEYS[1])
  local expires = redis.call('PEXPIRETIME', KEYS[1])
  local deadline = string.format('%.0f', expires)
  local indexed_until = string.format('%.0f', expires + 7 * 86400000)
  local entry = redis.call('LINDEX', KEYS[2], -1)
  local owner_length = struct.unpack('>H', raw, 5)
  local head, rest = string.sub(raw, 1, 64), string.sub(raw, 65 + owner_length)
  local at, event, after = string.match(entry, '^(%S+) (%S+) %S+(.*)$')
  for i = 1, #ARGV, 3 do
    local base, id, owner = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    redis.call('SET', base .. 's:' .. id, head .. owner .. rest, 'PXAT', deadline)
    redis.call('ZADD', base .. 'u:' .. owner, deadline, id)
    redis.call('PEXPIREAT', base .. 'u:' .. owner, indexed_until)
    redis.call('ZADD', base .. 'live', deadline, owner)
    redis.call('RPUSH', base .. 'a:' .. owner, at .. ' ' .. event .. ' ' .. id .. after)
    redis.call('PEXPIREAT', base .. 'a:' .. owner, deadline)
  end`;

/** Copies the session of `user-0000000` until there are `count` sessions. Returns the ids of some copies. */
export async function seedSessions(redis: RedisServer, sessionId: string, count: number): Promise<string[]> {
  const client = createClient({ socket: { path: redis.socketPath!, tls: false } });
  client.on("error", () => undefined);
  await client.connect();
  const partitionOf = (owner: string) => {
    const partition = partitionOfOwner(owner);
    return { partition, base: `sa:{${PARTITION_TAGS[partition]}}:` };
  };
  const original = "default:user-0000000";
  const { base } = partitionOf(original);
  const keys = [`${base}s:${sessionId}`, `${base}a:${original}`];
  const sample: string[] = [];
  for (let n = 1; n < count;) {
    const args: string[] = [];
    for (; args.length < BATCH * 3 && n < count; n++) {
      const owner = `default:user-${String(n).padStart(7, "0")}`;
      const { partition, base: ofOwner } = partitionOf(owner);
      const id = newSessionId(partition);
      args.push(ofOwner, id, owner);
      if (n % SAMPLE === 0) sample.push(id);
    }
    await client.eval(COPY, { keys, arguments: args });
  }
  client.destroy();
  return sample;
}
