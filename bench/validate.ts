// `npm run bench`: measures the cost of one validation in the server and the store, and compares the service with the floors of
// its stack and with its peers, in interleaved rounds. Prints a table and writes bench/results/validate.json.
//
// BENCH_ROUNDS and BENCH_REQUESTS (of a round) change its length. BENCH_ONLY is a regular expression of contestants' names.

import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { startRedisServer } from "../test/helpers/redis_server.ts";
import { recordKey } from "../src/store/keys.ts";
import { cpuMicros } from "./process_cpu.ts";
import { machine, median, percentile } from "./report.ts";
import { ourContestants, startCachedClient, startFloors, startOurs, type Contestant } from "./validate_contestants.ts";
import { startPeers } from "./validate_peers.ts";

const ROUNDS = Number(process.env["BENCH_ROUNDS"] ?? 7);
const REQUESTS = Number(process.env["BENCH_REQUESTS"] ?? 20_000);
const ONLY = new RegExp(process.env["BENCH_ONLY"] ?? "");
const RESULTS = new URL("results/", import.meta.url);
/** The reference of the ratios: the parts that every validation needs, in one process. */
const REFERENCE = "bare grpc-js + one tuned GET";
const OURS = "ValidateToken, gRPC";

/** CPU microseconds and latency of one validation, and the throughput. */
type Round = { serverMicros: number; storeMicros: number; perSecond: number; p50Ms: number; p99Ms: number };

const redis = await startRedisServer();
const ours = await startOurs(redis);
const contestants = [
  ...ourContestants(ours, REQUESTS),
  await startCachedClient(ours, REQUESTS * 10),
  ...(await startFloors(redis, ours, recordKey(ours.sessionIds[0]!)!, REQUESTS)),
  ...(await startPeers(redis, REQUESTS)),
].filter(({ name }) => ONLY.test(name));

const rounds = new Map<Contestant, Round[]>(contestants.map((contestant) => [contestant, []]));
for (let round = 0; round <= ROUNDS; round++) {
  for (const contestant of contestants) {
    const measured = await measure(contestant);
    // The first round warms up.
    if (round > 0) rounds.get(contestant)!.push(measured);
  }
}
report();
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

function report(): void {
  const rows = contestants.map((contestant) => ({
    name: contestant.name,
    kind: contestant.kind,
    ...summary(contestant),
  }));
  const columns = ["serverMicros", "storeMicros", "toReference", "toOurs", "perSecond", "p50Ms", "p99Ms"] as const;
  console.log(`${machine()}; ${ROUNDS} rounds of ${REQUESTS} requests, 64 in flight; medians, of one validation`);
  console.log("".padEnd(34), ...columns.map((column) => column.padStart(12)));
  for (const row of rows) {
    const cells = columns.map((column) => (Number.isNaN(row[column]) ? "-" : row[column].toFixed(2)).padStart(12));
    console.log(row.name.padEnd(34), ...cells);
  }
  mkdirSync(RESULTS, { recursive: true });
  const redisVersion = /v=(\S+)/.exec(spawnSync("redis-server", ["--version"], { encoding: "utf8" }).stdout)?.[1];
  const result = {
    date: new Date().toISOString(),
    machine: machine(),
    redisVersion,
    rounds: ROUNDS,
    requests: REQUESTS,
    rows,
  };
  writeFileSync(new URL("validate.json", RESULTS), `${JSON.stringify(result, undefined, 2)}\n`);
}

/** Returns the medians. The ratios are medians of the ratios of each round, server and store together. */
function summary(contestant: Contestant) {
  const own = rounds.get(contestant)!;
  const of = (column: keyof Round) => median(own.map((round) => round[column]));
  const ratioTo = (name: string) => {
    const others = [...rounds].find(([other]) => other.name === name)?.[1];
    const total = ({ serverMicros, storeMicros }: Round) => serverMicros + storeMicros;
    return others === undefined ? NaN : median(own.map((round, i) => total(round) / total(others[i]!)));
  };
  return {
    serverMicros: of("serverMicros"),
    storeMicros: of("storeMicros"),
    toReference: ratioTo(REFERENCE),
    toOurs: ratioTo(OURS),
    perSecond: of("perSecond"),
    p50Ms: of("p50Ms"),
    p99Ms: of("p99Ms"),
  };
}
