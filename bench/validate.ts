// `npm run bench`: what one validation costs the server and the store, ours against the floors of its stack and against
// what people would pick instead, in interleaved rounds of one run.

import { mkdirSync, writeFileSync } from "node:fs";
import { startRedisServer } from "../test/helpers/redis_server.ts";
import { recordKey } from "../src/store/keys.ts";
import { cpuMicros } from "./process_cpu.ts";
import { machine, median, percentile } from "./report.ts";
import { ourContestants, startFloors, startOurs, type Contestant } from "./validate_contestants.ts";

const ROUNDS = Number(process.env["BENCH_ROUNDS"] ?? 5);
const REQUESTS = Number(process.env["BENCH_REQUESTS"] ?? 20_000);
const ONLY = process.env["BENCH_ONLY"];

const redis = await startRedisServer();
const ours = await startOurs(redis);
const contestants = [
  ...ourContestants(ours, REQUESTS),
  ...(await startFloors(redis, ours, recordKey(ours.sessionIds[0]!)!, REQUESTS)),
].filter(({ name }) => ONLY === undefined || new RegExp(ONLY).test(name));

type Round = { serverMicros: number; storeMicros: number; perSecond: number; p50Ms: number; p99Ms: number };
const rounds = new Map<Contestant, Round[]>(contestants.map((contestant) => [contestant, []]));
for (let round = 0; round <= ROUNDS; round++) {
  for (const contestant of contestants) {
    const measured = await measure(contestant);
    // The first round warms up.
    if (round > 0) rounds.get(contestant)!.push(measured);
  }
}
for (const contestant of contestants) {
  const all = rounds.get(contestant)!;
  const m = (k: keyof Round) => median(all.map((r) => r[k])).toFixed(2);
  console.error(contestant.name, all.map((r) => r.serverMicros.toFixed(0)).join(" "));
  console.log(
    contestant.name.padEnd(36),
    m("serverMicros").padStart(8),
    m("storeMicros").padStart(8),
    m("perSecond").padStart(10),
    m("p50Ms"),
    m("p99Ms"),
  );
}
console.log(machine());
void mkdirSync;
void writeFileSync;
process.exit();

async function measure({ pids, validations, run }: Contestant): Promise<Round> {
  const serverCpu = () => pids.reduce((sum, pid) => sum + cpuMicros(pid), 0);
  const [serverBefore, storeBefore] = [serverCpu(), cpuMicros(redis.pid)];
  const { seconds, latenciesMs } = await run();
  return {
    serverMicros: (serverCpu() - serverBefore) / validations,
    storeMicros: (cpuMicros(redis.pid) - storeBefore) / validations,
    perSecond: validations / seconds,
    p50Ms: percentile(latenciesMs, 0.5),
    p99Ms: percentile(latenciesMs, 0.99),
  };
}
