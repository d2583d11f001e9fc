// What `doctor` advises on the settings of a store: what loses sessions when a node fails.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pino from "pino";
import { adviseOnStore } from "../../src/store/compatibility/store_advice.ts";
import { createStoreConnection } from "../../src/store/connection/connection.ts";
import { parseStoreUrl } from "../../src/store/connection/store_url.ts";
import { luaReply, startFaultyStore } from "../helpers/resp_server.ts";
import { redisServerMissing, startRedisServer, type RedisServer } from "../helpers/redis_server.ts";

const DURABLE = ["--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0"];

async function advise(url: string): Promise<string[]> {
  const connection = createStoreConnection({ url: parseStoreUrl(url).url!, log: pino({ level: "silent" }) });
  const call = { deadlineMs: performance.now() + 20_000, signal: new AbortController().signal };
  try {
    await connection.whenReady(call);
    return await adviseOnStore(connection, call);
  } finally {
    await connection.close();
  }
}

async function untilReplicas(primary: RedisServer, count: number): Promise<void> {
  for (;;) {
    const online = (await primary.command("INFO", "replication")).match(/state=online/g) ?? [];
    if (online.length === count) return;
    await sleep(20);
  }
}

describe("advice on a store", { skip: redisServerMissing() }, () => {
  test("its persistence", async () => {
    const server = await startRedisServer({ args: DURABLE });
    try {
      assert.deepEqual(await advise(server.url), []);
      await server.command("CONFIG", "SET", "appendfsync", "everysec");
      assert.match((await advise(server.url)).join("|"), /^appendfsync is everysec: [^|]*$/);
      await server.command("CONFIG", "SET", "appendonly", "no");
      assert.match((await advise(server.url)).join("|"), /^appendonly is no: [^|]*$/);
      // Without CONFIG, INFO says whether there is a log of the changes, but not how it is written.
      await server.command("ACL", "SETUSER", "default", "-config");
      assert.match((await advise(server.url)).join("|"), /^appendonly is no: [^|]*$/);
      await server.command("ACL", "SETUSER", "default", "+config");
      await server.command("CONFIG", "SET", "appendonly", "yes");
      await server.command("ACL", "SETUSER", "default", "-config");
      assert.match((await advise(server.url)).join("|"), /^the store does not report appendfsync, [^|]*$/);
    } finally {
      await server.stop();
    }
  });

  test("its replicas", async () => {
    const primary = await startRedisServer({ args: DURABLE });
    const replica = await startRedisServer({ args: ["--replicaof", "127.0.0.1", String(primary.port)] });
    try {
      await untilReplicas(primary, 1);
      assert.match(
        (await advise(primary.url)).join("|"),
        /^min-replicas-to-write is 0 and min-replicas-max-lag is 10: [^|]*$/,
      );
      await primary.command("CONFIG", "SET", "min-replicas-to-write", "1");
      assert.deepEqual(await advise(primary.url), []);
      await primary.command("CONFIG", "SET", "min-replicas-max-lag", "60");
      assert.match((await advise(primary.url)).join("|"), /^min-replicas-max-lag is 60: [^|]*$/);
      await primary.command("CONFIG", "SET", "min-replicas-max-lag", "10");
      await replica.command("ACL", "SETUSER", "default", "-time");
      assert.match(
        (await advise(primary.url)).join("|"),
        /^the clock of the replica 127\.0\.0\.1:\d+ could not be compared: NOPERM[^|]*$/,
      );
    } finally {
      await Promise.all([primary.stop(), replica.stop()]);
    }
  });

  test("clocks that differ", async () => {
    const primary = await startRedisServer({ args: [...DURABLE, "--min-replicas-to-write", "1"] });
    const replica = await startRedisServer({ args: ["--replicaof", "127.0.0.1", String(primary.port)] });
    const ahead = "local time = redis.call('TIME') return {tostring(time[1] + 30), time[2]}";
    const store = await startFaultyStore(primary, (args) => (args[0] === "TIME" ? luaReply(ahead, args) : undefined));
    try {
      await untilReplicas(primary, 1);
      const [text, ...others] = await advise(store.url);
      assert.match(
        text!,
        /^the clock of the primary on port \d+ is (29|30)\d{3} ms ahead of that of the replica 127\.0\.0\.1:\d+: /,
      );
      assert.deepEqual(others, []);
    } finally {
      await store.stop();
      await Promise.all([primary.stop(), replica.stop()]);
    }
  });
});
