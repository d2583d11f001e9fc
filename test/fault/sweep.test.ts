// The sweep by one of several instances: who has the lease, what happens when it dies, and what idle instances cost the store.

import assert from "node:assert/strict";
import { after, before, describe, test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pino from "pino";
import { InvalidationReason } from "../../gen/session/v1/session_pb.ts";
import { createSessionClient } from "../../src/client/index.ts";
import { createStoreConnection } from "../../src/store/connection/connection.ts";
import { parseStoreUrl } from "../../src/store/connection/store_url.ts";
import { SWEEP_LEASE_KEY } from "../../src/store/keys.ts";
import { createScripts } from "../../src/store/scripts.ts";
import { createSweepStore, type SweepStore } from "../../src/store/sweep.ts";
import { createAuthorityClient } from "../helpers/grpc_client.ts";
import { race } from "../helpers/races.ts";
import { redisServerMissing, startRedisServer, type RedisServer } from "../helpers/redis_server.ts";
import { startServerProcess } from "../helpers/server_process.ts";
import { createWatchClient } from "../helpers/watch_client.ts";

const skip = redisServerMissing();
const IDLE_SECONDS = 6;
const seconds = (count: number) => ({ seconds: BigInt(count), nanos: 0 });

async function startStore(t: TestContext): Promise<RedisServer> {
  const redis = await startRedisServer();
  t.after(() => redis.stop());
  return redis;
}

/** Returns how many commands the store has executed, those inside scripts included. */
async function commandsOf(redis: RedisServer): Promise<number> {
  const stats = await redis.command("INFO", "commandstats");
  return [...stats.matchAll(/cmdstat_(\S+?):calls=(\d+)/g)].reduce((sum, [, , calls]) => sum + Number(calls), 0);
}

async function commandsPerSecond(redis: RedisServer): Promise<number> {
  const beforeIdle = await commandsOf(redis);
  await sleep(IDLE_SECONDS * 1000);
  return ((await commandsOf(redis)) - beforeIdle) / IDLE_SECONDS;
}

describe("the sweep of several instances", { skip, concurrency: true }, () => {
  test("another instance takes over, and expirations are still reported within 5 s", async (t) => {
    const redis = await startStore(t);
    const servers = await Promise.all([1, 2, 3].map(() => startServerProcess(redis)));
    t.after(() => Promise.all(servers.map((server) => server.kill())));
    const [first, ...others] = servers as [(typeof servers)[0], ...typeof servers];
    await first.kill();
    // Wait until one of the others sweeps, and kill it while a session is about to expire.
    for (let killed = 0; killed < others.length - 1; killed++) {
      const alive = others.slice(killed);
      const survivor = alive.at(-1)!;
      const client = createAuthorityClient(survivor.address);
      t.after(() => client.close());
      const watcher = createWatchClient(survivor.address);
      t.after(() => watcher.close());
      const stream = watcher.watch({ reasons: [InvalidationReason.EXPIRED] });
      await stream.opened();
      const timeouts = { idleTimeout: seconds(2), absoluteTimeout: seconds(100) };
      const { session } = await client.createSession({ userId: "expiring", ...timeouts });
      const createdMs = performance.now();
      await alive[0]!.kill();
      await stream.until(
        (event) => event.case === "invalidation" && event.value.sessionId === session!.sessionId,
        15_000,
      );
      const lateMs = performance.now() - createdMs - 2000;
      assert.ok(lateMs < 5000, `reported ${lateMs.toFixed(0)} ms after the expiry`);
    }
  });

  test("idle instances cost the store little, and caches of an instance no more than one of them", async (t) => {
    const redis = await startStore(t);
    const first = await startServerProcess(redis);
    t.after(() => first.kill());
    await sleep(5000);
    const ofOne = await commandsPerSecond(redis);
    const others = await Promise.all([1, 2].map(() => startServerProcess(redis)));
    t.after(() => Promise.all(others.map((server) => server.kill())));
    await sleep(5000);
    const ofThree = await commandsPerSecond(redis);
    const clients = Array.from({ length: 20 }, () => createSessionClient({ address: first.address }));
    t.after(() => clients.forEach((client) => client.close()));
    await Promise.all(clients.map((client) => client.waitUntilReady()));
    const withCaches = await commandsPerSecond(redis);
    t.diagnostic(
      `${ofOne.toFixed(1)} commands/s, of three ${ofThree.toFixed(1)}, with caches ${withCaches.toFixed(1)}`,
    );
    assert.ok(ofOne <= 10, `${ofOne} commands/s of one instance`);
    assert.ok((ofThree - ofOne) / 2 <= 5.5, `${(ofThree - ofOne) / 2} commands/s of a further instance`);
    // Four reads of the tails a second at most, each with the proof that they are those of a primary.
    assert.ok(withCaches - ofThree <= 9, `${withCaches - ofThree} commands/s of 20 caches`);
  });
});

describe("the lease of the sweep", { skip }, () => {
  let redis: RedisServer;
  let sweep: SweepStore;
  let close: () => Promise<void>;
  const call = () => ({ deadlineMs: performance.now() + 5000, signal: new AbortController().signal });

  before(async () => {
    redis = await startRedisServer();
    const connection = createStoreConnection({ url: parseStoreUrl(redis.url).url!, log: pino({ level: "silent" }) });
    await connection.whenReady(call());
    const scripts = createScripts({ connection, shebang: true });
    sweep = createSweepStore({ connection, scripts, settings: {} as never });
    close = async () => {
      await connection.close();
      await redis.stop();
    };
  });
  after(() => close?.());

  test("one of many acquires it, and nobody else renews it or gives it up", async () => {
    for (let round = 0; round < 20; round++) {
      await redis.command("DEL", SWEEP_LEASE_KEY);
      const acquired: string[] = [];
      await race(30, async (n) => {
        if (await sweep.acquireLease(`instance-${n}`, call())) acquired.push(`instance-${n}`);
      });
      assert.equal(acquired.length, 1);
      const [holder] = acquired as [string];
      assert.equal(await sweep.renewLease("another", 2000, call()), false);
      assert.equal(await sweep.renewLease("another", 0, call()), false);
      assert.equal(await sweep.renewLease(holder, 2000, call()), true);
    }
  });

  test("a holder that comes back late does not take it from its successor", async () => {
    await redis.command("DEL", SWEEP_LEASE_KEY);
    assert.ok(await sweep.acquireLease("first", call()));
    await redis.command("DEL", SWEEP_LEASE_KEY);
    // The renewal of the first races with the second.
    const [renewed, acquired] = await Promise.all([
      sweep.renewLease("first", 2000, call()),
      sweep.acquireLease("second", call()),
    ]);
    assert.deepEqual([renewed, acquired], [false, true]);
    assert.equal(await sweep.renewLease("first", 0, call()), false);
    assert.equal(await sweep.renewLease("second", 0, call()), true);
    assert.ok(await sweep.acquireLease("third", call()));
    assert.ok(Number((await redis.command("PTTL", SWEEP_LEASE_KEY)).slice(1)) > 0);
  });
});
