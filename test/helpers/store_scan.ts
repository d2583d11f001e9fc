// Scans a store for faults: keys without a TTL, live sessions that an index lacks, index entries without a session, and gaps in
// a change log.

import { fromBinary } from "@bufbuild/protobuf";
import type { RedisClientType } from "redis";
import { SessionSchema } from "../../gen/session/v1/session_pb.ts";
import { RECORD_KIND, SessionRecord } from "../../src/store/session_record.ts";
import { tenantFaults } from "./tenant_scan.ts";

type AnyClient = Pick<RedisClientType, "sendCommand">;

/** What the indexes must agree with. `device` is percent-encoded, and empty unless it is a device session. */
type Live = { expiresMs: number; accessedMs: number; owner: string; device: string; scoreBits: number };

const KINDS = [
  "mv",
  ...["s", "f", "u", "o", "d", "p", "a", "ac", "am", "x", "t", "r", "q", "g", "i", "c", "m", "n"],
  ...["log", "live", "tail", "meta", "tenants", "sweep", "probe", "wait"],
];
/** Those of a tenant go away with its last session, which tenantFaults checks. */
const WITHOUT_TTL = ["log", "live", "meta", "c", "m", "n", "tenants"];

/** Returns a description of every fault in the store. Nothing may write to the store in the meantime. */
export async function scanStore(client: AnyClient): Promise<string[]> {
  const send = (...args: string[]) => client.sendCommand(args) as Promise<unknown>;
  const now = (await serverTimeMs(client)) as number;
  const faults: string[] = [];
  const keys = await allKeys(client);
  const ttls = await inBatches(keys, (key) => send("PTTL", key));
  const live = new Map<string, Live>();
  const ofKind = (kind: string) => keys.filter((key) => partsOf(key).kind === kind);

  for (const [i, key] of keys.entries()) {
    const { kind } = partsOf(key);
    if (!KINDS.includes(kind)) faults.push(`${key} is of no known kind`);
    if (Number(ttls[i]) === -1 && !WITHOUT_TTL.includes(kind)) faults.push(`${key} has no TTL`);
  }
  await inBatches(ofKind("s"), async (key) => {
    const [bytes, expireTime] = await Promise.all([
      client.sendCommand(["GET", key], { typeMapping: { 36: Buffer } } as never),
      send("PEXPIRETIME", key).then(Number),
    ]);
    if (bytes === null) return;
    const record = new SessionRecord(partsOf(key).rest, bytes as unknown as Buffer);
    if (expireTime !== record.expiresMs)
      faults.push(`${key} expires at ${expireTime}, its record at ${record.expiresMs}`);
    // The forward from a former id to its successor is in no index.
    if (record.forwardsTo !== undefined) return;
    const device = encodeURIComponent(fromBinary(SessionSchema, record.contractBytes).device?.deviceId ?? "");
    const { expiresMs, lastAccessedMs: accessedMs, owner } = record;
    const isToken = record.kind === RECORD_KIND.token;
    const scoreBits = (isToken ? 2 : 0) + (expiresMs === record.absoluteExpiresMs ? 1 : 0);
    live.set(record.sessionId, { expiresMs, accessedMs, owner, device, scoreBits });
  });

  const [indexed, onDevices, unswept] = [new Map<string, string>(), new Set(), new Set<string>()];
  const firstDeadlines = new Map<string, number>();
  const check = (key: string, id: string, owner: string, device?: string, score?: number) => {
    const session = live.get(id);
    if (!session) return faults.push(`${key} has ${id}, which does not exist`);
    if (session.owner !== owner) faults.push(`${key} has ${id} of ${session.owner} under ${owner}`);
    if (device !== undefined && session.device !== device) faults.push(`${key} has ${id} on ${device}`);
    const expected = 4 * session.expiresMs + session.scoreBits;
    if (score !== undefined && score !== expected) faults.push(`${key} has ${id} at ${score}, not ${expected}`);
    return undefined;
  };
  for (const key of ofKind("live")) {
    for (const [owner, score] of await members(client, key)) {
      firstDeadlines.set(`${partsOf(key).base}u:${owner}`, score);
    }
  }
  await inBatches(ofKind("u"), async (key) => {
    const sessions = await members(client, key);
    const first = sessions[0] && Math.floor(sessions[0][1] / 4);
    const live = firstDeadlines.get(key);
    if (live !== first) faults.push(`${key} is in the live set at ${live}, not ${first}`);
    firstDeadlines.delete(key);
    for (const [id, score] of sessions) {
      indexed.set(id, partsOf(key).rest);
      if (score < 4 * now) unswept.add(id);
      else check(key, id, partsOf(key).rest, undefined, score);
    }
  });
  for (const [key, score] of firstDeadlines) {
    if (score >= now) faults.push(`${key} is in the live set, and has no session`);
  }
  for (const key of ofKind("o")) {
    const { base, rest: owner } = partsOf(key);
    const [order, ttls] = [
      new Map(await members(client, key)),
      await Promise.all([key, `${base}u:${owner}`].map((each) => send("PEXPIRETIME", each))),
    ];
    if (ttls[1] !== -2 && ttls[0] !== ttls[1]) faults.push(`${key} does not expire with the user's index`);
    for (const [id, session] of live) {
      const score = session.owner === owner ? session.accessedMs : undefined;
      if (order.get(id) !== score) faults.push(`${key} has ${id} at ${order.get(id)}, not ${score}`);
    }
    for (const id of order.keys()) if (!live.has(id) && !unswept.has(id)) faults.push(`${key} has ${id}, swept`);
  }
  await inBatches(ofKind("d"), async (key) => {
    for (const [device, id] of Object.entries((await send("HGETALL", key)) as Record<string, string>)) {
      // The sweep removes the entry of an expired session.
      if (!unswept.has(id)) check(key, id, partsOf(key).rest, device);
      onDevices.add(id);
    }
  });
  await inBatches(ofKind("f"), async (key) => {
    const session = live.get(partsOf(key).rest);
    const expireTime = Number(await send("PEXPIRETIME", key));
    if (!session && expireTime >= now) faults.push(`${key} belongs to no session`);
    if (session && expireTime !== session.expiresMs)
      faults.push(`${key} expires at ${expireTime}, not with its session`);
  });
  await inBatches(ofKind("log"), async (key) => {
    faults.push(...(await logFaults(client, key, partsOf(key).base)));
  });
  faults.push(...(await tenantFaults(client, keys, indexed)));
  for (const [id, session] of live) {
    if (session.expiresMs < now + 50) continue;
    if (!indexed.has(id)) faults.push(`session ${id} is in no user's index`);
    if (session.device !== "" && !onDevices.has(id)) faults.push(`session ${id} is on no device`);
  }
  return faults;
}

function partsOf(key: string): { base: string; kind: string; rest: string } {
  const [, base = "", kind = "", rest = ""] = /^(sa:\{\w+\}:)(\w+):?(.*)$/s.exec(key) ?? [];
  return { base, kind, rest };
}

async function inBatches<T, R>(items: readonly T[], run: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let i = 0; i < items.length; i += 1000) {
    results.push(...(await Promise.all(items.slice(i, i + 1000).map(run))));
  }
  return results;
}

async function logFaults(client: AnyClient, key: string, base: string): Promise<string[]> {
  const entries = (await client.sendCommand(["XRANGE", key, "-", "+"])) as unknown as [string, string[]][];
  const faults: string[] = [];
  let previous: [bigint, bigint] | undefined;
  for (const [id, [, change]] of entries) {
    const [epoch, seq] = id.split("-").map(BigInt) as [bigint, bigint];
    if (!change!.startsWith(`${id} `)) faults.push(`${key} ${id} holds ${change}`);
    if (previous && epoch === previous[0] && seq !== previous[1] + 1n) faults.push(`${key} has a hole before ${id}`);
    if (previous && epoch !== previous[0] && seq !== 1n) faults.push(`${key} begins epoch ${epoch} at ${seq}`);
    previous = [epoch, seq];
  }
  const tail = await client.sendCommand(["GET", `${base}tail`]);
  if (String(tail) !== entries.at(-1)?.[0]) faults.push(`${base}tail is ${String(tail)}`);
  return faults;
}

async function allKeys(client: AnyClient): Promise<string[]> {
  const keys = new Set<string>();
  let cursor = "0";
  do {
    const [next, page] = (await client.sendCommand(["SCAN", cursor, "COUNT", "1000"])) as unknown as [string, string[]];
    for (const key of page) keys.add(key);
    cursor = next;
  } while (cursor !== "0");
  return [...keys];
}

async function members(client: AnyClient, key: string): Promise<[string, number][]> {
  const list = (await client.sendCommand(["ZRANGE", key, "0", "-1", "WITHSCORES"])) as unknown as
    | string[]
    | [string, number][];
  if (Array.isArray(list[0])) return (list as [string, number][]).map(([member, score]) => [member, Number(score)]);
  const flat = list as string[];
  return Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i]!, Number(flat[2 * i + 1])]);
}

async function serverTimeMs(client: AnyClient): Promise<number> {
  const [seconds, micros] = (await client.sendCommand(["TIME"])) as unknown as [string, string];
  return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
}
