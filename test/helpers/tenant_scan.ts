// Scans the counts and indexes of tenants for faults: they must agree with the users' indexes, and go away when they are empty.

import type { RedisClientType } from "redis";

type AnyClient = Pick<RedisClientType, "sendCommand">;

const ENTRY_BYTES = 29;
const SEGMENT_BYTES = 141 * ENTRY_BYTES;
const BLANK = "ff".repeat(21);

/** What a tenant has in one partition. */
type Tenant = { readonly ids: Set<string>; readonly indexed: string[]; count: number; unindexed: number };

/** Returns the faults. `owners` has the owner of each session that is in a user's index, swept or not, by its id. */
export async function tenantFaults(
  client: AnyClient,
  keys: readonly string[],
  owners: ReadonlyMap<string, string>,
): Promise<string[]> {
  const send = (...args: string[]) => client.sendCommand(args) as Promise<unknown>;
  const faults: string[] = [];
  const tenants = new Map<string, Tenant>();
  const tenantOf = (name: string) => {
    let tenant = tenants.get(name);
    if (!tenant) tenants.set(name, (tenant = { ids: new Set(), indexed: [], count: 0, unindexed: 0 }));
    return tenant;
  };
  for (const key of keys) {
    const [, base = "", kind, owner = ""] = /^(sa:\{\w+\}:)(u):(.*)$/s.exec(key) ?? [];
    if (kind === undefined) continue;
    for (const id of (await send("ZRANGE", key, "0", "-1")) as string[]) {
      if (owners.get(id) === owner) tenantOf(`${base}${owner.split(":")[0]}`).ids.add(id);
    }
  }
  const sets = new Set<string>();
  for (const key of keys) {
    const [, base = "", kind = "", name = ""] = /^(sa:\{\w+\}:)(tenants$|[cmn](?=:)):?([^:]*)$/.exec(key) ?? [];
    if (kind === "tenants") {
      for (const member of (await send("SMEMBERS", key)) as string[]) sets.add(`${base}${member}`);
    } else if (kind === "c") tenantOf(`${base}${name}`).count = Number(await send("GET", key));
    else if (kind === "m") tenantOf(`${base}${name}`).unindexed = Number(await send("GET", key));
    else if (kind === "n") tenantOf(`${base}${name}`).indexed.push(...(await indexOf(client, key, keys, faults)));
  }
  for (const [name, { ids, indexed, count, unindexed }] of tenants) {
    if (count !== ids.size) faults.push(`${name} counts ${count} sessions of ${ids.size}`);
    if (indexed.length + unindexed !== ids.size) {
      faults.push(`${name} has ${ids.size} sessions, ${indexed.length} in its index and ${unindexed} not`);
    }
    if (new Set(indexed).size !== indexed.length) faults.push(`the index of ${name} has a session twice`);
    for (const id of indexed) if (!ids.has(id)) faults.push(`the index of ${name} has ${id}, which does not exist`);
    if (sets.has(name) !== count > 0) faults.push(`${name} is in the set of tenants: ${sets.has(name)}`);
  }
  for (const name of sets) if (!tenants.has(name)) faults.push(`${name} is in the set of tenants, and has no session`);
  return faults;
}

/** Returns the ids in an index, and adds faults of its segments. */
async function indexOf(client: AnyClient, key: string, keys: readonly string[], faults: string[]): Promise<string[]> {
  const numbers = (await client.sendCommand(["ZRANGE", key, "0", "-1"])) as unknown as string[];
  const stored = keys.filter((other) => other.startsWith(`${key}:`));
  if (stored.length !== numbers.length) faults.push(`${key} has ${numbers.length} segments, stored ${stored.length}`);
  const ids: string[] = [];
  let last = -Infinity;
  for (const number of numbers) {
    const bytes = (await client.sendCommand(["GET", `${key}:${number}`], {
      typeMapping: { 36: Buffer },
    } as never)) as unknown as Buffer | null;
    if (bytes === null || bytes.length % ENTRY_BYTES !== 0 || bytes.length > SEGMENT_BYTES) {
      faults.push(`${key}:${number} has ${bytes?.length} bytes`);
      continue;
    }
    let blanks = 0;
    const first = Number(await client.sendCommand(["ZSCORE", key, number]));
    for (let at = 0; at < bytes.length; at += ENTRY_BYTES) {
      const order = bytes.readDoubleBE(at);
      if (order <= last || order < first)
        faults.push(`${key}:${number} has ${order} after ${last}, begins at ${first}`);
      last = order;
      const id = bytes.subarray(at + 8, at + ENTRY_BYTES);
      if (id.toString("hex") === BLANK) blanks++;
      else ids.push(id.toString("base64url"));
    }
    if (blanks * ENTRY_BYTES * 4 > bytes.length) faults.push(`${key}:${number} has ${blanks} blank entries`);
  }
  return ids;
}
