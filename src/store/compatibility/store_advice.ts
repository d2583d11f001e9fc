// Advice on the settings of a store: what does not keep it from holding sessions, but loses some when a node fails.

import type { CallDeadline } from "../../domain/call.ts";
import type { StoreConnection, StoreReply } from "../connection/connection.ts";
import { withClient } from "../connection/store_client.ts";
import { hostPortText, type HostPort } from "../connection/store_url.ts";
import { tagsOfPrimaries } from "./compatibility_check.ts";
import { milliseconds } from "./probes.ts";

/** A replica that is further behind loses more than this of the latest changes when it takes over. */
const MOST_LAG_S = 10;
/** A difference of the clocks up to this is not reported. */
const CLOCK_TOLERANCE_MS = 500;
const REPLICA_TIMEOUT_MS = 2_000;

/** What the time of a node was, by its clock less this process's, and how far that may be off. */
type ClockReading = { readonly node: string; readonly aheadMs: number; readonly errorMs: number };

/** Resolves to a text for each setting of the store that should be different, and for each that could not be read. */
export async function adviseOnStore(connection: StoreConnection, call: CallDeadline): Promise<string[]> {
  const advice = new Set<string>();
  const clocks: ClockReading[] = [];
  for (const tag of await tagsOfPrimaries(connection, call)) {
    const key = `sa:{${tag}}:probe`;
    const send = (...args: string[]) => connection.send(key, args, call);
    const sections = ["server", "persistence", "replication"].map((section) => infoOf(send, section));
    const [server, persistence, replication] = (await Promise.all(sections)) as [string, string, string];
    const replicas = parseReplicas(replication);
    for (const text of await adviseOnPersistence(send, persistence)) advice.add(text);
    if (replicas.length > 0) for (const text of await adviseOnReplication(send)) advice.add(text);
    clocks.push(await readClock(primaryName(server), () => send("TIME")));
    for (const replica of replicas) {
      const node = `the replica ${hostPortText(replica)}`;
      try {
        const time = () =>
          withClient(replica, { ...connection.url, database: 0 }, REPLICA_TIMEOUT_MS, (client) =>
            readClock(node, () => client.sendCommand<StoreReply>(["TIME"])),
          );
        clocks.push(await time());
      } catch (error) {
        advice.add(`the clock of ${node} could not be compared: ${(error as Error).message}`);
      }
    }
  }
  return [...advice, ...adviseOnClocks(clocks)];
}

type Send = (...args: string[]) => Promise<StoreReply>;

function primaryName(info: string): string {
  const port = /^tcp_port:(\d+)/m.exec(info)?.[1] ?? "0";
  return port === "0" ? "the primary" : `the primary on port ${port}`;
}

async function adviseOnPersistence(send: Send, info: string): Promise<string[]> {
  const appendonly = (await setting(send, "appendonly")) ?? (/^aof_enabled:1/m.test(info) ? "yes" : undefined);
  const isOff = appendonly === "no" || /^aof_enabled:0/m.test(info);
  if (isOff) return ["appendonly is no: a restart of the store loses sessions, and revives sessions that have ended"];
  if (appendonly === undefined)
    return ["the store does not report appendonly and appendfsync, which should be yes and always"];
  const appendfsync = await setting(send, "appendfsync");
  if (appendfsync === "always") return [];
  if (appendfsync === undefined) return ["the store does not report appendfsync, which should be always"];
  return [
    `appendfsync is ${appendfsync}: a crash of the store loses changes that it had acknowledged; set it to always`,
  ];
}

async function adviseOnReplication(send: Send): Promise<string[]> {
  const [count, lag] = await Promise.all([
    setting(send, "min-replicas-to-write"),
    setting(send, "min-replicas-max-lag"),
  ]);
  if (count === undefined || lag === undefined) {
    return ["the store has replicas, but does not report min-replicas-to-write, which should be 1 or more"];
  }
  if (count === "0" || lag === "0") {
    return [
      `min-replicas-to-write is ${count} and min-replicas-max-lag is ${lag}: a primary that is cut off from its replicas goes ` +
        "on acknowledging changes, and a failover loses them; set both to 1 or more",
    ];
  }
  if (Number(lag) <= MOST_LAG_S) return [];
  return [
    `min-replicas-max-lag is ${lag}: a failover may lose the changes of ${lag} s; set it to ${MOST_LAG_S} or less`,
  ];
}

function adviseOnClocks(clocks: readonly ClockReading[]): string[] {
  const sorted = clocks.toSorted((one, other) => one.aheadMs - other.aheadMs);
  const [first, last] = [sorted[0], sorted.at(-1)];
  if (first === undefined || last === undefined) return [];
  const differenceMs = last.aheadMs - first.aheadMs - first.errorMs - last.errorMs;
  if (differenceMs <= CLOCK_TOLERANCE_MS) return [];
  return [
    `the clock of ${last.node} is ${Math.round(differenceMs)} ms ahead of that of ${first.node}: after a failover, sessions ` +
      "end that much too early or too late; synchronize the clocks",
  ];
}

async function readClock(node: string, readTime: () => Promise<StoreReply>): Promise<ClockReading> {
  const sentMs = Date.now();
  const timeMs = milliseconds(await readTime());
  const receivedMs = Date.now();
  return { node, aheadMs: timeMs - (sentMs + receivedMs) / 2, errorMs: (receivedMs - sentMs) / 2 };
}

/** Resolves to undefined if the store does not report the setting: hosted stores often refuse CONFIG. */
async function setting(send: Send, name: string): Promise<string | undefined> {
  const reply = await send("CONFIG", "GET", name).catch(() => undefined);
  return Array.isArray(reply) && reply.length >= 2 ? String(reply[1]) : undefined;
}

async function infoOf(send: Send, section: string): Promise<string> {
  return String(await send("INFO", section).catch(() => ""));
}

function parseReplicas(info: string): HostPort[] {
  const lines = info.matchAll(/^slave\d+:ip=([^,]+),port=(\d+),state=online/gm);
  return Array.from(lines, ([, host, port]) => ({ host: host!, port: Number(port) }));
}
