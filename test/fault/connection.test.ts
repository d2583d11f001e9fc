// The connection to a store that hangs, dies, loses its scripts or is overloaded: every wait ends, and no error escapes.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pino from "pino";
import type { CallDeadline } from "../../src/domain/call.ts";
import { SessionError } from "../../src/domain/errors.ts";
import { createStoreConnection, StoreReplyError, type StoreConnection } from "../../src/store/connection/connection.ts";
import { createScripts } from "../../src/store/scripts.ts";
import { parseStoreUrl } from "../../src/store/connection/store_url.ts";
import { countLostTime } from "../helpers/lost_time.ts";
import { redisServerMissing, startRedisServer, type RedisServer } from "../helpers/redis_server.ts";

const log = pino({ level: "silent" });

function callOf(milliseconds: number, signal: AbortSignal = new AbortController().signal): CallDeadline {
  return { deadlineMs: performance.now() + milliseconds, signal };
}

function connect(url: string, maxPending?: number): StoreConnection {
  return createStoreConnection({ url: parseStoreUrl(url).url!, log, maxPending });
}

/** Returns the reason and the time of a rejection; `ownMs` excludes the time that other work on the machine took. */
async function failure(promise: Promise<unknown>): Promise<{ reason: string; afterMs: number; ownMs: number }> {
  const lostMs = countLostTime();
  const startedMs = performance.now();
  const error = await promise.then(
    () => assert.fail("it did not fail"),
    (cause: unknown) => cause,
  );
  if (!(error instanceof SessionError)) throw error;
  const afterMs = performance.now() - startedMs;
  return { reason: error.reason, afterMs, ownMs: afterMs - lostMs() };
}

describe("connection", { skip: redisServerMissing() }, () => {
  let server: RedisServer;
  let connection: StoreConnection;
  const escaped: unknown[] = [];
  const onEscape = (error: unknown): void => void escaped.push(error);

  before(() => {
    process.on("unhandledRejection", onEscape);
    process.on("uncaughtException", onEscape);
  });
  beforeEach(async () => {
    server = await startRedisServer({ socket: true });
    connection = connect(server.url);
    await connection.whenReady(callOf(5_000));
  });
  afterEach(async () => {
    await connection.close();
    await server.stop();
    assert.deepEqual(escaped, []);
  });
  after(() => {
    process.off("unhandledRejection", onEscape);
    process.off("uncaughtException", onEscape);
  });

  const get = (milliseconds: number, signal?: AbortSignal): Promise<unknown> =>
    connection.send("k", ["GET", "k"], callOf(milliseconds, signal));

  test("bulk strings are Buffers, statuses strings, integers numbers, and bytes survive", async () => {
    const bytes = Buffer.from([0, 13, 10, 255]);
    assert.equal(await connection.send("k", ["SET", "k", bytes], callOf(1_000)), "OK");
    assert.deepEqual(await get(1_000), bytes);
    assert.equal(await connection.send("k", ["STRLEN", "k"], callOf(1_000)), 4);
    assert.equal(await connection.send("x", ["GET", "x"], callOf(1_000)), null);
    const script = "return {'a', 1, {'b'}}";
    assert.deepEqual(await connection.send("k", ["EVAL", script, "1", "k"], callOf(1_000)), [
      Buffer.from("a"),
      1,
      [Buffer.from("b")],
    ]);
  });

  test("error replies: the store's own, OOM and those of a store that cannot serve", async () => {
    const reply = (text: string): Promise<unknown> =>
      connection.send("k", ["EVAL", "return redis.error_reply(ARGV[1])", "1", "k", text], callOf(1_000));
    await assert.rejects(
      reply("WRONGTYPE no"),
      (error) => error instanceof StoreReplyError && error.code === "WRONGTYPE",
    );
    assert.equal((await failure(reply("OOM command not allowed"))).reason, "STORE_FULL");
    for (const code of ["LOADING", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN"]) {
      assert.equal((await failure(reply(`${code} no`))).reason, "STORE_UNAVAILABLE", code);
    }
  });

  test("a hung store: each call ends by its own deadline, also under traffic", async () => {
    server.pause();
    for (const milliseconds of [100, 400]) {
      const { reason, afterMs, ownMs } = await failure(get(milliseconds));
      assert.equal(reason, "STORE_TIMEOUT");
      assert.ok(afterMs >= milliseconds - 1 && ownMs < milliseconds + 50, `${afterMs} ms for ${milliseconds} ms`);
    }
    assert.equal((await failure(get(-1))).reason, "DEADLINE_EXCEEDED");
  });

  test("the connection to a hung store is dropped within 2 s under traffic, and made again within 2 s of its return", async () => {
    server.pause();
    const pausedMs = performance.now();
    while (connection.isReady()) {
      await failure(get(20));
      assert.ok(performance.now() - pausedMs < 2_500, "the hung connection was not dropped");
    }
    const { reason, ownMs } = await failure(get(5_000));
    assert.equal(reason, "STORE_UNAVAILABLE");
    assert.ok(ownMs < 50);
    server.resume();
    await connection.whenReady(callOf(2_000));
    assert.equal(await get(1_000), null);
  });

  test("an abort of the caller's signal ends its wait at once", async () => {
    server.pause();
    const gone = new AbortController();
    const wait = failure(get(5_000, gone.signal));
    await sleep(60);
    gone.abort();
    const { reason, ownMs } = await wait;
    assert.equal(reason, "CANCELLED");
    assert.ok(ownMs < 110, `${ownMs} ms`);
    assert.equal(
      (await failure(get(5_000, AbortSignal.abort(new DOMException("", "TimeoutError"))))).reason,
      "DEADLINE_EXCEEDED",
    );
    const known = new SessionError("SHUTTING_DOWN", "bye");
    assert.equal((await failure(get(5_000, AbortSignal.abort(known)))).reason, "SHUTTING_DOWN");
  });

  test("a deadline of 30 days is waited for, without an overflow of the timer", async () => {
    const warnings: Error[] = [];
    const onWarning = (warning: Error): void => void warnings.push(warning);
    process.on("warning", onWarning);
    const call = callOf(30 * 86_400_000);
    assert.equal(await connection.send("k", ["BLPOP", "nothing", "0.2"], call), null);
    process.off("warning", onWarning);
    assert.deepEqual(warnings, []);
  });

  test("a late reply is dropped and resolves no other call", async () => {
    await connection.send("k", ["SET", "k", "late"], callOf(1_000));
    server.pause();
    assert.equal((await failure(get(50))).reason, "STORE_TIMEOUT");
    const other = connection.send("k", ["STRLEN", "k"], callOf(1_000));
    server.resume();
    assert.equal(await other, 4);
  });

  test("a killed store: what is in flight fails at once, and recovery takes less than 2 s", async () => {
    server.pause();
    const waits = Array.from({ length: 100 }, () => failure(get(5_000)));
    await sleep(20);
    await server.kill();
    for (const { reason, ownMs } of await Promise.all(waits)) {
      assert.equal(reason, "STORE_UNAVAILABLE");
      assert.ok(ownMs < 1_000, `${ownMs} ms`);
    }
    assert.equal((await failure(get(5_000))).reason, "STORE_UNAVAILABLE");
    // Long enough for the pauses between attempts to have grown to their longest.
    await sleep(1_500);
    await server.restart();
    await connection.whenReady(callOf(2_000));
    assert.equal(await get(1_000), null);
  });

  test("50,000 commands for a hung store: bounded, and all end", async () => {
    server.pause();
    const payload = Buffer.alloc(1_024);
    const beforeBytes = process.memoryUsage().rss;
    const reasons = new Map<string, number>();
    const waits = Array.from({ length: 50_000 }, () =>
      connection.send("k", ["SET", "k", payload], callOf(10_000)).catch((error: SessionError) => {
        reasons.set(error.reason, (reasons.get(error.reason) ?? 0) + 1);
      }),
    );
    await Promise.all(waits);
    const grownBytes = process.memoryUsage().rss - beforeBytes;
    assert.deepEqual(Object.fromEntries(reasons), { STORE_OVERLOADED: 40_000, STORE_UNAVAILABLE: 10_000 });
    assert.ok(grownBytes < 200 * 2 ** 20, `${grownBytes} bytes`);
  });

  test("a full connection accepts commands again after replies arrive", async () => {
    const narrow = connect(server.url, 2);
    try {
      await narrow.whenReady(callOf(2_000));
      const ping = (): Promise<unknown> => narrow.send("k", ["PING"], callOf(1_000));
      const [first, second, third] = await Promise.allSettled([ping(), ping(), ping()]);
      assert.equal(first.status, "fulfilled");
      assert.equal(second.status, "fulfilled");
      assert.ok(third.status === "rejected" && third.reason.reason === "STORE_OVERLOADED");
      assert.equal(await ping(), "PONG");
    } finally {
      await narrow.close();
    }
  });

  test("scripts survive SCRIPT FLUSH and a store that starts anew", async () => {
    const scripts = createScripts({ connection, shebang: true });
    const keys = ["s", "f", "t", "live", "log", "tail", "meta"].map((name) => `sa:{x}:${name}`);
    const run = async (): Promise<string> =>
      (await scripts.run("simple_sessions_get", keys, ["a", "b", "0", ""], callOf(2_000), ["not_found"])).outcome;
    assert.equal(await run(), "not_found");
    await server.command("SCRIPT", "FLUSH");
    assert.equal(await run(), "not_found");
    // It may be connected anew before the restart is known to be over.
    const lost = new Promise<void>((resolve) => connection.onReadyChange((ready) => void (ready || resolve())));
    await server.restart();
    await lost;
    await connection.whenReady(callOf(2_000));
    assert.equal(await run(), "not_found");
  });

  test("listeners are called once for each change; close ends waits and attempts", async () => {
    const changes: boolean[] = [];
    const stop = connection.onReadyChange((ready) => changes.push(ready));
    await server.kill();
    while (connection.isReady()) await sleep(5);
    const notReady = failure(connection.whenReady(callOf(100)));
    assert.equal((await notReady).reason, "STORE_UNAVAILABLE");
    await server.restart();
    await connection.whenReady(callOf(2_000));
    assert.deepEqual(changes, [false, true]);
    stop();
    const open = failure(connection.send("k", ["BLPOP", "nothing", "5"], callOf(5_000)));
    await sleep(20);
    await connection.close();
    assert.equal((await open).reason, "STORE_UNAVAILABLE");
    assert.equal((await failure(get(1_000))).reason, "STORE_UNAVAILABLE");
    assert.equal((await failure(connection.whenReady(callOf(1_000)))).reason, "STORE_UNAVAILABLE");
    assert.deepEqual(changes, [false, true]);
  });
});

test(
  "whenReady waits for a store that is not up yet, and no error escapes",
  { skip: redisServerMissing() },
  async () => {
    const server = await startRedisServer();
    await server.kill();
    const connection = connect(server.url);
    try {
      assert.equal((await failure(connection.whenReady(callOf(200)))).reason, "STORE_UNAVAILABLE");
      await server.restart();
      await connection.whenReady(callOf(2_000));
    } finally {
      await connection.close();
      await server.stop();
    }
  },
);

test("credentials, and a wrong password that never becomes ready", { skip: redisServerMissing() }, async () => {
  const server = await startRedisServer({ args: ["--requirepass", "right"] });
  const right = connect(`redis://:right@127.0.0.1:${server.port}/2`);
  const wrong = connect(`redis://:wrong@127.0.0.1:${server.port}`);
  try {
    await right.whenReady(callOf(2_000));
    assert.equal(await right.send("k", ["SET", "k", "v"], callOf(1_000)), "OK");
    assert.equal((await failure(wrong.whenReady(callOf(500)))).reason, "STORE_UNAVAILABLE");
  } finally {
    await right.close();
    await wrong.close();
    await server.stop();
  }
});
