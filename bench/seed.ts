// Fills a store with sessions of many users, by a script of its own that writes what create_session writes, except the change
// log. This is faster than calls to the service.

import { createClient } from "redis";
import { ownerOf, partitionOfOwner } from "../src/domain/owner.ts";
import { newSessionId } from "../src/domain/session_id.ts";
import { partitionKeys } from "../src/store/keys.ts";
import { assembleScript, readLua } from "../src/store/script_source.ts";
import type { RedisServer } from "../test/helpers/redis_server.ts";

const PER_SCRIPT = 200;
const SAMPLE = 20_000;
const SEED = `
local LIVE = KEYS[1]
local identity, labels, data = ARGV[1], ARGV[2], ARGV[3]
-- @include includes/audit
-- @include includes/index
-- @include includes/tenant_index
for i = 4, #ARGV, 2 do
  local r = {
    id = ARGV[i], owner = ARGV[i + 1], kind = 0, flags = 0, version = 1, created = exact_now, accessed = now,
    idle = 86400000, absolute = now + 7 * 86400000, authenticated = 0, device = '', identity = identity, data = data,
    labels = labels, authentication = '', retired = {}, expires = now + 86400000,
  }
  record_write(r)
  index_put(r)
  tenant_add(r, true)
  audit_append(r, 30 * 86400000, 'created', 'anonymous/', '')
end`;

/** Creates `count` sessions of `users` users of a tenant, with these segments. Returns the ids of the last few thousand. */
export async function seedSessions(
  redis: RedisServer,
  { tenant, count, users, identity, labels, data }: SeedOptions,
): Promise<string[]> {
  const client = createClient({ socket: { path: redis.socketPath!, tls: false } });
  client.on("error", () => undefined);
  await client.connect();
  const text = assembleScript("seed", (name) => (name === "seed" ? SEED : readLua(name)))
    .map((line) => line.text)
    .join("\n");
  const sha = await client.scriptLoad(text);
  const segments = [identity, labels, data].map((bytes) => Buffer.from(bytes) as never);
  const sample: string[] = [];
  const batches = new Map<number, string[]>();
  const flush = async (partition: number, pairs: string[]) => {
    await client.evalSha(sha, { keys: [...partitionKeys(partition)], arguments: [...segments, ...pairs] });
    batches.delete(partition);
  };
  for (let n = 0; n < count; n++) {
    const owner = ownerOf(tenant, `user-${n % users}`);
    const partition = partitionOfOwner(owner);
    const sessionId = newSessionId(partition);
    if (n >= count - SAMPLE) sample.push(sessionId);
    const pairs = batches.get(partition) ?? [];
    batches.set(partition, pairs);
    if (pairs.push(sessionId, owner) >= PER_SCRIPT * 2) await flush(partition, pairs);
  }
  for (const [partition, pairs] of batches) await flush(partition, pairs);
  client.destroy();
  return sample;
}

type SeedOptions = {
  readonly tenant: string;
  readonly count: number;
  readonly users: number;
  /** Segments of the record. */
  readonly identity: Uint8Array;
  readonly labels: Uint8Array;
  readonly data: Uint8Array;
};
