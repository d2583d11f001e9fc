// `npm run bench:fanout`: measures the server's CPU time for each event and watcher, and compares it with the minimum.

import { setTimeout as sleep } from "node:timers/promises";
import { startAuthorities } from "../test/helpers/authority.ts";
import { connectRaw, openWatch } from "../test/helpers/raw_stream.ts";
import { startMeasured, startServerProcess, type ServerProcess } from "../test/helpers/server_process.ts";
import { EVENT_SPACING_MS } from "./fanout_event.ts";
import { median, machine } from "./report.ts";

const CONNECTIONS = 20;
const WATCHERS = Number(process.env["BENCH_WATCHERS"] ?? 1000);
const EVENTS = Number(process.env["BENCH_EVENTS"] ?? 100);
const ROUNDS = Number(process.env["BENCH_ROUNDS"] ?? 7);
const QUIET_MS = 2000;
/** The protobuf tag of an invalidation in a WatchInvalidationsResponse. */
const INVALIDATION_TAG = 0x12;

type Contestant = {
  readonly name: string;
  readonly server: ServerProcess;
  /** Prepares `count` events. Resolves with the function that makes the server send them. */
  readonly prepare: (count: number) => Promise<() => Promise<void>>;
  received: number;
  /** The CPU time of each round, and the same without the CPU time that the idle server uses in that time. */
  readonly micros: number[];
  readonly microsOfEvents: number[];
};

const authorities = await startAuthorities();
const [client] = authorities.clients;

const bench = (kind: string) => startMeasured(new URL("fanout_server.ts", import.meta.url).pathname, [kind]);
const byMessage = (server: ServerProcess) => async (count: number) => async () => server.send(String(count));
const contestants = [
  await contestant("bare grpc-js, a ready Buffer", await bench("bare"), byMessage),
  await contestant("ours", await startServerProcess(authorities.redis), () => sessionsToRevoke),
  await contestant("grpc-js, serialised for each", await bench("each"), byMessage),
  await contestant("connect-node", await bench("connect"), byMessage),
];

const quietMicros: number[] = [];
for (let round = 0; round <= ROUNDS; round++) {
  for (const one of contestants) {
    const quiet = await measureQuiet(one);
    const { micros, seconds } = await measure(one);
    // The first round warms up.
    if (round === 0) continue;
    one.micros.push(micros);
    one.microsOfEvents.push(micros - (quiet * seconds) / EVENTS);
    if (one.name === "ours") quietMicros.push(quiet);
  }
}

console.log(`${machine()}; ${WATCHERS} watchers on ${CONNECTIONS} connections, ${ROUNDS} rounds of ${EVENTS} events`);
const floor = contestants[0]!;
for (const { name, micros, microsOfEvents } of contestants) {
  const ratioTo = (values: number[], others: number[]) => median(values.map((value, round) => value / others[round]!));
  const [all, events] = [ratioTo(micros, floor.micros), ratioTo(microsOfEvents, floor.microsOfEvents)];
  console.log(`${name.padEnd(30)} ${median(micros).toFixed(2)} us for each event and watcher, ${all.toFixed(2)}x`);
  console.log(
    `${"  less the quiet server's".padEnd(30)} ${median(microsOfEvents).toFixed(2)} us, ${events.toFixed(2)}x`,
  );
}
console.log(`ours, nothing happening        ${median(quietMicros).toFixed(1)} us a second for each watcher`);
for (const { server } of contestants) await server.kill();
await authorities.close();
process.exit();

async function contestant(
  name: string,
  server: ServerProcess,
  preparing: (server: ServerProcess) => Contestant["prepare"],
): Promise<Contestant> {
  const created: Contestant = { name, server, prepare: preparing(server), received: 0, micros: [], microsOfEvents: [] };
  for (let i = 0; i < CONNECTIONS; i++) {
    const session = await connectRaw(server.address);
    for (let j = 0; j < WATCHERS / CONNECTIONS; j++) {
      openWatch(session, {}, (bytes) => void (bytes[0] === INVALIDATION_TAG && created.received++));
    }
  }
  await sleep(1000);
  return created;
}

/** Returns the server's CPU microseconds for each event and watcher, and the seconds that the events took. */
async function measure(one: Contestant): Promise<{ micros: number; seconds: number }> {
  const wanted = one.received + EVENTS * WATCHERS;
  const trigger = await one.prepare(EVENTS);
  const startedMs = performance.now();
  const before = await one.server.usage();
  await trigger();
  for (let waits = 0; one.received < wanted; waits++) {
    if (waits > 3000) throw new Error(`${one.name}: ${wanted - one.received} events did not arrive`);
    await sleep(10);
  }
  const { cpuMicros } = await one.server.usage();
  const micros = (cpuMicros - before.cpuMicros) / EVENTS / WATCHERS;
  return { micros, seconds: (performance.now() - startedMs) / 1000 };
}

/** Returns the server's CPU microseconds in a second for each watcher while nothing happens. */
async function measureQuiet({ server }: Contestant): Promise<number> {
  const before = await server.usage();
  await sleep(QUIET_MS);
  return ((await server.usage()).cpuMicros - before.cpuMicros) / WATCHERS / (QUIET_MS / 1000);
}

/** Creates sessions. Their revocations, by another instance, are the events of our server. */
async function sessionsToRevoke(count: number): Promise<() => Promise<void>> {
  const sessionIds: string[] = [];
  for (let i = 0; i < count; i++) {
    const { session } = await client!.createSession({ userId: `user-${i}` });
    sessionIds.push(session!.sessionId);
  }
  return async () => {
    for (const sessionId of sessionIds) {
      await Promise.all([client!.invalidateSession({ sessionId }), sleep(EVENT_SPACING_MS)]);
    }
  };
}
