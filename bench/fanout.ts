// `npm run bench:fanout`: what an event costs the server for each watcher, against the least that it could cost.

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
const QUIET_MS = 5000;
/** The tag of an invalidation in a message of the watch. */
const INVALIDATION_TAG = 0x12;

type Contestant = {
  readonly name: string;
  readonly server: ServerProcess;
  /** Prepares that many events; then what makes the server send them. */
  readonly prepare: (count: number) => Promise<() => Promise<void>>;
  received: number;
  readonly micros: number[];
};

const authorities = await startAuthorities();
const [client] = authorities.clients;

const bench = (kind: string) => startMeasured(new URL("fanout_server.ts", import.meta.url).pathname, [kind]);
const bySending = (server: ServerProcess) => async (count: number) => async () => server.send(String(count));
const contestants = [
  await contestant("bare grpc-js, a ready Buffer", await bench("bare"), bySending),
  await contestant("ours", await startServerProcess(authorities.redis), () => sessionsToRevoke),
  await contestant("grpc-js, serialised for each", await bench("each"), bySending),
  await contestant("connect-node", await bench("connect"), bySending),
];

for (let round = 0; round <= ROUNDS; round++) {
  for (const one of contestants) {
    const micros = await measure(one);
    // The first round warms up.
    if (round > 0) one.micros.push(micros);
  }
}

console.log(`${machine()}; ${WATCHERS} watchers on ${CONNECTIONS} connections, ${ROUNDS} rounds of ${EVENTS} events`);
const floor = contestants[0]!;
const quietBefore = await contestants[1]!.server.usage();
await sleep(QUIET_MS);
const quiet = ((await contestants[1]!.server.usage()).cpuMicros - quietBefore.cpuMicros) / WATCHERS / (QUIET_MS / 1000);
for (const { name, micros } of contestants) {
  const ratio = median(micros.map((value, round) => value / floor.micros[round]!));
  console.log(`${name.padEnd(30)} ${median(micros).toFixed(2)} us for each event and watcher, ${ratio.toFixed(2)}x`);
}
console.log(`ours, nothing happening            ${quiet.toFixed(1)} us a second for each watcher`);
for (const { server } of contestants) await server.kill();
await authorities.close();
process.exit();

async function contestant(
  name: string,
  server: ServerProcess,
  preparing: (server: ServerProcess) => Contestant["prepare"],
): Promise<Contestant> {
  const made: Contestant = { name, server, prepare: preparing(server), received: 0, micros: [] };
  for (let i = 0; i < CONNECTIONS; i++) {
    const session = await connectRaw(server.address);
    for (let j = 0; j < WATCHERS / CONNECTIONS; j++) {
      openWatch(session, {}, (bytes) => void (bytes[0] === INVALIDATION_TAG && made.received++));
    }
  }
  await sleep(1000);
  return made;
}

/** CPU microseconds of the server for each event and watcher. */
async function measure(one: Contestant): Promise<number> {
  const wanted = one.received + EVENTS * WATCHERS;
  const trigger = await one.prepare(EVENTS);
  const before = await one.server.usage();
  await trigger();
  for (let waits = 0; one.received < wanted; waits++) {
    if (waits > 3000) throw new Error(`${one.name}: ${wanted - one.received} events did not come`);
    await sleep(10);
  }
  const { cpuMicros } = await one.server.usage();
  return (cpuMicros - before.cpuMicros) / EVENTS / WATCHERS;
}

/** Their revocations are the events of our server; another instance makes them. */
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
