// `npm run bench:fanout`: what an event costs the server for each watcher, against the least that it could cost.

import { setTimeout as sleep } from "node:timers/promises";
import { startAuthorities } from "../test/helpers/authority.ts";
import { connectRaw, openWatch } from "../test/helpers/raw_stream.ts";
import { startMeasured, startServerProcess, type ServerProcess } from "../test/helpers/server_process.ts";
import { EVENT_SPACING_MS } from "./fanout_event.ts";
import { median, machine } from "./report.ts";

const CONNECTIONS = 10;
const WATCHERS = Number(process.env["BENCH_WATCHERS"] ?? 500);
const EVENTS = Number(process.env["BENCH_EVENTS"] ?? 100);
const ROUNDS = Number(process.env["BENCH_ROUNDS"] ?? 7);
/** The tag of an invalidation in a message of the watch. */
const INVALIDATION_TAG = 0x12;

type Contestant = {
  readonly name: string;
  readonly server: ServerProcess;
  /** Makes the server send that many events. */
  readonly trigger: (count: number) => Promise<void>;
  received: number;
  readonly micros: number[];
};

const authorities = await startAuthorities();
const [client] = authorities.clients;

const bench = (kind: string) => startMeasured(new URL("fanout_server.ts", import.meta.url).pathname, [kind]);
const bySending = (server: ServerProcess) => async (count: number) => server.send(String(count));
const contestants = [
  await contestant("bare grpc-js, a ready Buffer", await bench("bare"), bySending),
  await contestant("ours", await startServerProcess(authorities.redis), () => revoke),
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
for (const { name, micros } of contestants) {
  const ratio = median(micros.map((value, round) => value / floor.micros[round]!));
  console.log(`${name.padEnd(30)} ${median(micros).toFixed(2)} us for each event and watcher, ${ratio.toFixed(2)}x`);
}
for (const { server } of contestants) await server.kill();
await authorities.close();
process.exit();

async function contestant(
  name: string,
  server: ServerProcess,
  triggerOf: (server: ServerProcess) => (count: number) => Promise<void>,
): Promise<Contestant> {
  const made: Contestant = { name, server, trigger: triggerOf(server), received: 0, micros: [] };
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
  const before = await one.server.usage();
  await one.trigger(EVENTS);
  for (let waits = 0; one.received < wanted; waits++) {
    if (waits > 3000) throw new Error(`${one.name}: ${wanted - one.received} events did not come`);
    await sleep(10);
  }
  const { cpuMicros } = await one.server.usage();
  return (cpuMicros - before.cpuMicros) / EVENTS / WATCHERS;
}

/** Ends sessions on another instance than the one that is measured. */
async function revoke(count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const { session } = await client!.createSession({ userId: `user-${i}` });
    await Promise.all([client!.invalidateSession({ sessionId: session!.sessionId }), sleep(EVENT_SPACING_MS)]);
  }
}
