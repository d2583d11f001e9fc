// The scan that ends every test of the store: no key without a TTL but the three that may, and every live session in
// its indexes, and the reverse.

import type { RedisClientType } from "redis";
import { decodeRecord } from "../../src/store/record.ts";

type AnyClient = Pick<RedisClientType, "sendCommand">;

/** Every fault found in the store; empty when it is as it must be. Nothing may write while it runs. */
export async function scanStore(client: AnyClient): Promise<string[]> {
  const send = (...args: string[]) => client.sendCommand(args) as Promise<unknown>;
  const now = (await serverTimeMs(client)) as number;
  const faults: string[] = [];
  const keys = await allKeys(client);
  const live = new Map<string, { expiresMs: number; owner: string; base: string }>();

  for (const key of keys) {
    const ttl = Number(await send("PTTL", key));
    if (ttl === -1 && !/^sa:\{\w+\}:(log|live|meta)$/.test(key)) faults.push(`${key} has no TTL`);
    const match = /^(sa:\{\w+\}:)s:(.+)$/.exec(key);
    if (!match) continue;
    const bytes = await client.sendCommand(["GET", key], { typeMapping: { 36: Buffer } } as never);
    if (bytes === null) continue;
    const record = decodeRecord(match[2]!, bytes as unknown as Buffer);
    const expiresAt = Number(await send("PEXPIRETIME", key));
    if (expiresAt !== record.expiresMs)
      faults.push(`${key} expires at ${expiresAt}, its record says ${record.expiresMs}`);
    live.set(record.sessionId, { expiresMs: record.expiresMs, owner: record.owner, base: match[1]! });
  }

  const indexed = new Set<string>();
  const living = new Set<string>();
  for (const key of keys) {
    const base = /^sa:\{\w+\}:/.exec(key)![0];
    const [kind, rest] = [key.slice(base.length, base.length + 2), key.slice(base.length + 2)];
    if (kind === "u:") {
      for (const [id, score] of await members(client, key)) {
        if (score < now) continue;
        indexed.add(id);
        const session = live.get(id);
        if (!session) faults.push(`${key} lists ${id}, which does not exist`);
        else if (session.owner !== rest) faults.push(`${key} lists ${id} of ${session.owner}`);
        else if (session.expiresMs !== score) faults.push(`${key} has ${id} at ${score}, not ${session.expiresMs}`);
      }
    } else if (key === `${base}live`) {
      for (const [member, score] of await members(client, key)) {
        if (score < now) continue;
        const [id, owner] = member.split(" ") as [string, string];
        living.add(id);
        const session = live.get(id);
        if (!session) faults.push(`${key} has ${id}, which does not exist`);
        else if (session.owner !== owner) faults.push(`${key} has ${id} under ${owner}`);
        else if (session.expiresMs !== score) faults.push(`${key} has ${id} at ${score}, not ${session.expiresMs}`);
      }
    } else if (kind === "f:") {
      const session = live.get(rest);
      const expiresAt = Number(await send("PEXPIRETIME", key));
      if (!session && expiresAt >= now) faults.push(`${key} belongs to no session`);
      if (session && expiresAt !== session.expiresMs)
        faults.push(`${key} expires at ${expiresAt}, not with its session`);
    } else if (key === `${base}log`) {
      faults.push(...(await logFaults(client, key, base)));
    }
  }
  for (const id of live.keys()) {
    if (live.get(id)!.expiresMs < now + 50) continue;
    if (!indexed.has(id)) faults.push(`session ${id} is in no user's index`);
    if (!living.has(id)) faults.push(`session ${id} is not in the live set`);
  }
  return faults;
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
