// Cluster and Sentinel, with real processes: routing, redirections, and what happens when a primary dies.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import pino from "pino";
import type { CallDeadline } from "../../src/domain/call.ts";
import { createStoreConnection, type StoreConnection } from "../../src/store/connection/connection.ts";
import { slotOf } from "../../src/store/connection/slots.ts";
import { PARTITION_TAGS } from "../../src/store/partition_tags.ts";
import { probeStore } from "../../src/store/compatibility/compatibility_check.ts";
import { createScripts } from "../../src/store/scripts.ts";
import { parseStoreUrl } from "../../src/store/connection/store_url.ts";
import { countLostTime } from "../helpers/lost_time.ts";
import { SLOT_RANGES, startRedisCluster } from "../helpers/redis_cluster.ts";
import { until } from "../helpers/until.ts";
import { redisServerMissing, startRedisServer, type RedisServer } from "../helpers/redis_server.ts";

const log = pino({ level: "silent" });

function callOf(milliseconds: number): CallDeadline {
  return { deadlineMs: performance.now() + milliseconds, signal: new AbortController().signal };
}

function connect(url: string): StoreConnection {
  return createStoreConnection({ url: parseStoreUrl(url).url!, log });
}

/** Runs with a cluster of three primaries, and a connection to it. */
async function withCluster(
  body: (nodes: readonly RedisServer[], connection: StoreConnection) => Promise<void>,
): Promise<void> {
  const cluster = await startRedisCluster();
  const connection = connect(cluster.url);
  try {
    await connection.whenReady(callOf(5_000));
    await body(cluster.nodes, connection);
  } finally {
    await connection.close();
    await cluster.stop();
  }
}

describe("cluster", { skip: redisServerMissing() }, () => {
  test("slots are those of the specification", () => {
    assert.equal(slotOf("123456789"), 0x31c3);
    assert.equal(slotOf("a{123456789}b{x}"), 0x31c3);
    assert.equal(slotOf("{}123456789"), slotOf("{}123456789"));
    assert.notEqual(slotOf("{}123456789"), 0x31c3);
  });

  test("every partition's commands and scripts reach their primary; probes try each of them", async () => {
    await withCluster(async (nodes, connection) => {
      const set = (tag: string): Promise<unknown> =>
        connection.send(`sa:{${tag}}:k`, ["SET", `sa:{${tag}}:k`, tag, "PX", "60000"], callOf(2_000));
      assert.deepEqual(new Set(await Promise.all(PARTITION_TAGS.map(set))), new Set(["OK"]));
      const sizes = await Promise.all(nodes.map((node) => node.command("DBSIZE")));
      assert.equal(
        sizes.map((size) => Number(size.slice(1))).reduce((sum, size) => sum + size),
        PARTITION_TAGS.length,
      );
      assert.ok(!sizes.includes(":0"), sizes.join());

      const scripts = createScripts({ connection, shebang: true });
      for (const tag of [PARTITION_TAGS[0]!, PARTITION_TAGS[100]!, PARTITION_TAGS[255]!]) {
        const keys = ["s", "f", "t", "live", "log", "tail", "meta"].map((name) => `sa:{${tag}}:${name}`);
        const args = ["a", "b", "0", ""];
        const reply = await scripts.run("simple_sessions_get", keys, args, callOf(2_000), ["not_found"]);
        assert.equal(reply.outcome, "not_found");
      }
      assert.equal((await probeStore(connection, callOf(5_000))).shebang, true);
      await nodes[2]!.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru");
      await assert.rejects(probeStore(connection, callOf(5_000)), /maxmemory-policy.*allkeys-lru/s);
    });
  });

  test("commands follow a slot that moves: by ASK during the move, by MOVED after it", async () => {
    await withCluster(async (nodes, connection) => {
      const key = "sa:{moving}:k";
      const slot = slotOf(key);
      const from = SLOT_RANGES.findIndex(([first, last]) => slot >= first && slot <= last);
      const source = nodes[from]!;
      const target = nodes[(from + 1) % 3]!;
      const id = async (node: RedisServer): Promise<string> =>
        (await node.command("CLUSTER", "MYID")).split("\r\n")[1]!;
      const [sourceId, targetId] = [await id(source), await id(target)];
      await target.command("CLUSTER", "SETSLOT", String(slot), "IMPORTING", sourceId);
      await source.command("CLUSTER", "SETSLOT", String(slot), "MIGRATING", targetId);
      // The key is not at the source, so the source replies ASK and the target takes the command.
      assert.equal(await connection.send(key, ["SET", key, "v"], callOf(2_000)), "OK");
      assert.equal(await target.command("CLUSTER", "COUNTKEYSINSLOT", String(slot)), ":1");
      for (const node of [target, source]) await node.command("CLUSTER", "SETSLOT", String(slot), "NODE", targetId);
      assert.deepEqual(await connection.send(key, ["GET", key], callOf(2_000)), Buffer.from("v"));
    });
  });

  test("a primary that hangs or dies costs its own slots only, and is used again after its return", async () => {
    await withCluster(async (nodes, connection) => {
      const [first, second] = [0, 1].map((index) =>
        PARTITION_TAGS.find(
          (tag) => slotOf(`{${tag}}`) >= SLOT_RANGES[index]![0] && slotOf(`{${tag}}`) <= SLOT_RANGES[index]![1],
        ),
      );
      const get = (tag: string | undefined, milliseconds = 300): Promise<unknown> =>
        connection.send(`sa:{${tag}}:k`, ["GET", `sa:{${tag}}:k`], callOf(milliseconds));
      for (const [fault, cure] of [
        [() => nodes[1]!.pause(), () => nodes[1]!.resume()],
        [() => nodes[1]!.kill(), () => nodes[1]!.restart()],
      ] as const) {
        await fault();
        const lostMs = countLostTime();
        const startedMs = performance.now();
        await assert.rejects(get(second), /store/);
        assert.ok(performance.now() - startedMs - lostMs() < 350);
        assert.equal(await get(first), null);
        await until("the loss is noticed", async () => !connection.isReady(), 2_500);
        assert.equal(await get(first), null);
        await cure();
        // A primary that was restarted waits 2 s before it takes part in the cluster again.
        await connection.whenReady(callOf(15_000));
        await until(
          "its slots are served",
          () =>
            get(second).then(
              (reply) => reply === null,
              () => false,
            ),
          5_000,
        );
      }
    });
  });
});

describe("sentinel", { skip: redisServerMissing() }, () => {
  test("writes resume on the promoted replica after kill -9 of the master", async () => {
    const master = await startRedisServer();
    const replica = await startRedisServer({ args: ["--replicaof", "127.0.0.1", String(master.port)] });
    const conf = [
      `sentinel monitor main 127.0.0.1 ${master.port} 1`,
      "sentinel down-after-milliseconds main 500",
      "sentinel failover-timeout main 3000",
    ];
    const sentinel = await startRedisServer({ sentinel: `${conf.join("\n")}\n` });
    // The first sentinel of the list does not exist, so the request goes to the next one.
    const connection = connect(`redis+sentinel://127.0.0.1:1,127.0.0.1:${sentinel.port}/main`);
    try {
      await connection.whenReady(callOf(5_000));
      assert.deepEqual(connection.nodeAddress(), { host: "127.0.0.1", port: master.port });
      const set = (value: string): Promise<unknown> => connection.send("k", ["SET", "k", value], callOf(500));
      assert.equal(await set("before"), "OK");
      assert.equal((await probeStore(connection, callOf(5_000))).shebang, true);
      const isKnownAndInSync = async () => {
        const known = await sentinel.command("SENTINEL", "REPLICAS", "main");
        const synced = await replica.command("INFO", "replication");
        return known.includes(String(replica.port)) && synced.includes("master_link_status:up");
      };
      await until("the replica is known and in sync", isKnownAndInSync, 15_000);
      await master.kill();
      const isWritable = () =>
        set("after").then(
          (reply) => reply === "OK",
          () => false,
        );
      await until("writes resume", isWritable, 15_000);
      assert.deepEqual(connection.nodeAddress(), { host: "127.0.0.1", port: replica.port });
      assert.match(await replica.command("GET", "k"), /after$/);
    } finally {
      await connection.close();
      await Promise.all([master.stop(), replica.stop(), sentinel.stop()]);
    }
  });

  test("the connection to a master that was demoted is dropped for one to its successor", async () => {
    const [one, other] = await Promise.all([startRedisServer(), startRedisServer()]);
    const sentinel = await startRedisServer({ sentinel: `sentinel monitor main 127.0.0.1 ${one.port} 1\n` });
    const connection = connect(`redis+sentinel://127.0.0.1:${sentinel.port}/main`);
    try {
      await connection.whenReady(callOf(5_000));
      await sentinel.command("SENTINEL", "REMOVE", "main");
      await sentinel.command("SENTINEL", "MONITOR", "main", "127.0.0.1", String(other.port), "1");
      await one.command("REPLICAOF", "127.0.0.1", String(other.port));
      const set = (): Promise<unknown> => connection.send("k", ["SET", "k", "v"], callOf(500));
      await until(
        "writes go to the new master",
        () =>
          set().then(
            (reply) => reply === "OK",
            () => false,
          ),
        5_000,
      );
      assert.match(await other.command("GET", "k"), /v$/);
    } finally {
      await connection.close();
      await Promise.all([one.stop(), other.stop(), sentinel.stop()]);
    }
  });
});
