// `npm run bench:admin`: measures the methods across users on a store with 1,000,000 sessions of 200,000 users, and what an
// EndSessions of all of them costs the validations that run meanwhile.

import { hash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { ListOrder, Verdict } from "../gen/session/v1/session_pb.ts";
import { assembleScript, SCRIPT_NAMES, type ScriptName } from "../src/store/script_source.ts";
import { startAdmin } from "../test/helpers/admin.ts";
import type { AuthorityClient } from "../test/helpers/grpc_client.ts";
import { machine } from "./report.ts";
import { seedSessions } from "./seed.ts";
import { typicalSegments } from "./typical_session.ts";

const SESSIONS = Number(process.env["BENCH_SESSIONS"] ?? 1_000_000);
const USERS = SESSIONS / 5;
const VALIDATED = 1000;
const SLOW_SCRIPT_US = 5000;

const admin = await startAdmin(["acme", "other"]);
const { redis, control } = admin.authorities;
await seedSessions(redis, { tenant: "acme", count: SESSIONS, users: USERS, ...typicalSegments() });
const others = await seedSessions(redis, { tenant: "other", count: VALIDATED, users: VALIDATED, ...typicalSegments() });
const [acme, other] = [admin.tenant("acme"), admin.tenant("other").client];
console.log(`${machine()}; ${SESSIONS} sessions of ${USERS} users`);

await measure("CountSessions", () => acme.client.countSessions({}));
await measure("ListSessions, first page of 50", () => acme.client.listSessions({ order: ListOrder.NEWEST_FIRST }));
await measure("ListSessions, first page of 1,000", () => acme.client.listSessions({ pageSize: 1000 }));
await measure("ListSessions, a filter that nothing meets", () =>
  acme.client.listSessions({ filter: { labels: { app: "none" } } }),
);
await measure("ListTopUsers", () => acme.client.listTopUsers({}), 3);

await control.configSet("slowlog-max-len", "1000");
await control.configSet("slowlog-log-slower-than", String(SLOW_SCRIPT_US));
await control.sendCommand(["SLOWLOG", "RESET"]);
const stopped = new AbortController();
const before = validateUntil(other, others, stopped.signal);
await sleep(10_000);
stopped.abort();
report("validations alone", await before);

const running = new AbortController();
const during = validateUntil(other, others, running.signal);
const startedMs = performance.now();
let reports = 0;
let ended = 0n;
for await (const progress of acme.progressOf({ all: true })) {
  reports++;
  ended = progress.endedCount;
}
const seconds = (performance.now() - startedMs) / 1000;
running.abort();
report("validations during EndSessions", await during);
console.log(`EndSessions: ${ended} sessions in ${seconds.toFixed(0)} s, ${reports} reports`);
await reportSlowCommands();
await admin.authorities.close();
process.exit();

async function measure(name: string, call: () => Promise<unknown>, rounds = 20): Promise<void> {
  await call();
  const times: number[] = [];
  for (let n = 0; n < rounds; n++) {
    const startMs = performance.now();
    await call();
    times.push(performance.now() - startMs);
  }
  report(name, times);
}

function report(name: string, times: number[]): void {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!.toFixed(1);
  console.log(`${name.padEnd(42)} p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, max ${at(1)} ms (${times.length} calls)`);
}

/** Reports the commands over the limit by their kind. On a busy machine, some of them have waited for a CPU. */
async function reportSlowCommands(): Promise<void> {
  const names = new Map(SCRIPT_NAMES.map((name) => [shaOf(name), name]));
  const entries = (await control.sendCommand(["SLOWLOG", "GET", "-1"])) as unknown as [
    number,
    number,
    number,
    string[],
  ][];
  const kinds = Map.groupBy(entries, ([, , , [command, sha]]) => names.get(sha as never) ?? command!);
  console.log(`commands over ${SLOW_SCRIPT_US / 1000} ms: ${entries.length}`);
  for (const [kind, all] of kinds) {
    const longest = Math.max(...all.map(([, , micros]) => micros));
    console.log(`  ${kind}: ${all.length}, the longest ${(longest / 1000).toFixed(1)} ms`);
  }
}

function shaOf(name: ScriptName): string {
  return hash(
    "sha1",
    assembleScript(name)
      .map(({ text }) => text)
      .join("\n"),
  );
}

/** Sends one validation each 2 ms, whatever the others take. Returns their times. */
async function validateUntil(client: AuthorityClient, ids: readonly string[], signal: AbortSignal): Promise<number[]> {
  const times: number[] = [];
  const calls: Promise<unknown>[] = [];
  for (let n = 0; !signal.aborted; n++) {
    const startMs = performance.now();
    const validated = client.validateSession({ sessionId: ids[n % ids.length]! }).then(({ verdict }) => {
      if (verdict !== Verdict.VALID) throw new Error("a session of another tenant has ended");
      times.push(performance.now() - startMs);
    });
    calls.push(validated);
    await sleep(2);
  }
  await Promise.all(calls);
  return times;
}
