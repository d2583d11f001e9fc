// The watch under load: watchers miss nothing while others come and go, and opening and closing them leaks no memory.
//
// WATCH_LOAD_SECONDS and WATCH_CYCLES make it longer; `npm run soak:load` sets them.

import assert from "node:assert/strict";
import type { ClientHttp2Session } from "node:http2";
import { after, before, describe, test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fromBinary } from "@bufbuild/protobuf";
import { WatchInvalidationsResponseSchema } from "../../gen/session/v1/watch_pb.ts";
import { percentile } from "../../bench/report.ts";
import { createAuthorityClient, type AuthorityClient } from "../helpers/grpc_client.ts";
import { connectRaw, openWatch, type RawStream } from "../helpers/raw_stream.ts";
import { redisServerMissing, startRedisServer, type RedisServer } from "../helpers/redis_server.ts";
import { startServerProcess, type ServerProcess } from "../helpers/server_process.ts";

const LOAD_SECONDS = Number(process.env["WATCH_LOAD_SECONDS"] ?? 5);
const CYCLES = Number(process.env["WATCH_CYCLES"] ?? 5000);
const CONNECTIONS = 20;
const WATCHERS = 1000;
const PER_SECOND = 500;
const CHURN_PER_SECOND = 50;
/** Each watcher watches one of this many users, except the first of each connection, which watches all. */
const USERS = 100;
const TICK_MS = 20;
const MAX_HEAP_PER_CYCLE = 1024;

const skip = redisServerMissing();
let redis: RedisServer;
let server: ServerProcess;
let client: AuthorityClient;
let sessions: ClientHttp2Session[];

before(async () => {
  if (skip) return;
  redis = await startRedisServer();
  server = await startServerProcess(redis, {}, ["--expose-gc"]);
  client = createAuthorityClient(server.address);
  sessions = await Promise.all(Array.from({ length: CONNECTIONS }, () => connectRaw(server.address)));
});
after(async () => {
  if (skip) return;
  for (const session of sessions) session.destroy();
  client.close();
  await server.kill();
  await redis.stop();
});

/** For each user, when each of its sessions was ended. A watcher must receive all of them. */
const endedMs = Array.from({ length: USERS }, () => new Map<string, number>());
const latenciesMs: number[] = [];

type LoadWatcher = {
  readonly stream: RawStream;
  /** Rejects if the stream ends before it opens: an instance refuses watchers while it cannot read the store in time. */
  readonly opened: Promise<void>;
  /** Returns the number of missed invalidations and of resets. */
  missed(): number;
};

/** Watches one user, or all if `user` is undefined, and records the events. */
function watch(session: ClientHttp2Session, user: number | undefined): LoadWatcher {
  const received = new Map<string, string>();
  const { promise: opened, resolve, reject } = Promise.withResolvers<void>();
  opened.catch(() => undefined);
  let resets = 0;
  const userIds = user === undefined ? [] : [`user-${user}`];
  const stream = openWatch(session, { userIds }, (bytes) => {
    const { event } = fromBinary(WatchInvalidationsResponseSchema, bytes);
    if (event.case === "opened") resolve();
    else if (event.case === "reset") resets++;
    else if (event.case === "invalidation") {
      const { changeId, sessionId, userId } = event.value;
      if (received.has(changeId)) return;
      received.set(changeId, sessionId);
      const startedMs = endedMs[Number(userId.slice(5))]!.get(sessionId);
      if (startedMs !== undefined) latenciesMs.push(performance.now() - startedMs);
    }
  });
  void stream.closed.then(() => reject(new Error("the stream ended before it opened")));
  return {
    stream,
    opened,
    missed() {
      const ids = new Set(received.values());
      const expected = (user === undefined ? endedMs : [endedMs[user]!]).flatMap((ended) => [...ended.keys()]);
      return resets + expected.filter((id) => !ids.has(id)).length;
    },
  };
}

describe("the watch under load", { skip }, () => {
  test("1,000 watchers miss nothing while others come and go", async (t) => {
    const idsOf = await createSessions();
    const before = await server.usage();
    const watchers = Array.from({ length: WATCHERS }, (_, i) =>
      watch(sessions[i % CONNECTIONS]!, i < CONNECTIONS ? undefined : i % USERS),
    );
    await Promise.all(watchers.map(({ opened }) => opened));
    await sleep(500);
    const quiet = await server.usage();
    t.diagnostic(`${Math.round((quiet.heapBytes - before.heapBytes) / WATCHERS)} bytes of heap for an idle watcher`);
    t.diagnostic(`${Math.round((quiet.rssBytes - before.rssBytes) / WATCHERS)} bytes of memory for an idle watcher`);

    const startedMs = performance.now();
    const ownBefore = process.cpuUsage();
    const churning = churn(startedMs, startedMs + LOAD_SECONDS * 1000);
    await Promise.all(invalidations(idsOf, startedMs));
    const tookSeconds = (performance.now() - startedMs) / 1000;
    t.diagnostic(
      `${Math.round((PER_SECOND * LOAD_SECONDS) / tookSeconds)} invalidations/s for ${tookSeconds.toFixed(1)} s`,
    );
    t.diagnostic(`${await churning} watchers came and went`);
    const [own, its] = [process.cpuUsage(ownBefore), (await server.usage()).cpuMicros - quiet.cpuMicros];
    const percent = (cpuMicros: number) => Math.round(cpuMicros / 1e4 / tookSeconds);
    t.diagnostic(`the server used ${percent(its)}% of a core, this process ${percent(own.user + own.system)}%`);

    const missed = () => watchers.reduce((sum, watcher) => sum + watcher.missed(), 0);
    for (let tries = 0; tries < 50 && missed() > 0; tries++) await sleep(200);
    assert.equal(missed(), 0);
    const [p50, p99] = [percentile(latenciesMs, 0.5), percentile(latenciesMs, 0.99)];
    t.diagnostic(
      `${latenciesMs.length} deliveries, from the call on: p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`,
    );
    await Promise.all(watchers.map(({ stream }) => stream.close()));
  });

  test("opening and closing leaks no memory", openAndClose);
});

async function createSessions(): Promise<{ user: number; sessionId: string }[]> {
  const created: { user: number; sessionId: string }[] = [];
  const total = PER_SECOND * LOAD_SECONDS;
  for (let from = 0; from < total; from += 100) {
    const batch = Array.from({ length: Math.min(100, total - from) }, (_, i) => (from + i) % USERS);
    const responses = await Promise.all(batch.map((user) => client.createSession({ userId: `user-${user}` })));
    responses.forEach(({ session }, i) => created.push({ user: batch[i]!, sessionId: session!.sessionId }));
  }
  return created;
}

/** Ends the sessions at a steady rate. Latencies count from before the call. */
function invalidations(idsOf: { user: number; sessionId: string }[], startedMs: number): Promise<unknown>[] {
  return idsOf.map(async ({ user, sessionId }, i) => {
    const tick = Math.floor((i / PER_SECOND) * (1000 / TICK_MS)) * TICK_MS;
    await sleep(Math.max(1, startedMs + tick - performance.now()));
    endedMs[user]!.set(sessionId, performance.now());
    const { deleted } = await client.invalidateSession({ sessionId });
    assert.ok(deleted);
  });
}

/** Opens and closes watchers until `untilMs`; resolves with their number. */
async function churn(startedMs: number, untilMs: number): Promise<number> {
  let count = 0;
  for (; performance.now() < untilMs; count++) {
    const watcher = watch(sessions[count % CONNECTIONS]!, count % USERS);
    const closing = sleep(500).then(() => watcher.stream.close());
    closing.catch(() => undefined);
    await sleep(Math.max(1, startedMs + (count * 1000) / CHURN_PER_SECOND - performance.now()));
  }
  return count;
}

async function openAndClose(t: TestContext): Promise<void> {
  let refused = 0;
  async function cycles(count: number): Promise<void> {
    for (let done = 0; done < count; done += CONNECTIONS * 5) {
      // An HTTP/2 server ends a connection with too many cancelled streams: here more than 1,000 at once and 33 a second.
      for (const [i, session] of sessions.entries()) {
        if (session.closed || session.destroyed) sessions[i] = await connectRaw(server.address);
      }
      const opened = Array.from({ length: CONNECTIONS * 5 }, (_, i) => watch(sessions[i % CONNECTIONS]!, i % USERS));
      await Promise.all(opened.map((watcher) => watcher.opened.catch(() => refused++)));
      await Promise.all(opened.map(({ stream }) => stream.close()));
    }
    await sleep(500);
  }
  // The first cycles fill what stays allocated once, such as compiled code and caches.
  await cycles(Math.min(CYCLES, 2000));
  const { heapBytes } = await server.usage();
  await cycles(CYCLES);
  const slope = ((await server.usage()).heapBytes - heapBytes) / CYCLES;
  t.diagnostic(`${CYCLES} cycles: ${Math.round(slope)} bytes of heap each; ${refused} refused`);
  assert.ok(refused < CYCLES / 20);
  assert.ok(slope < MAX_HEAP_PER_CYCLE, `${slope} bytes of heap leak in each cycle`);
}
