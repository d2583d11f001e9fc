// The embedded store: its data outlives kill -9 of the service and of the store, and a data directory has one service.

import assert from "node:assert/strict";
import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pino from "pino";
import type { CallDeadline } from "../../src/domain/call.ts";
import { createStoreConnection, type StoreConnection } from "../../src/store/connection/connection.ts";
import { startEmbeddedStore, type EmbeddedStore } from "../../src/store/embedded/embedded_store.ts";
import { probeStore } from "../../src/store/compatibility/compatibility_check.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

const log = pino({ level: "silent" });

function callOf(milliseconds: number): CallDeadline {
  return { deadlineMs: performance.now() + milliseconds, signal: new AbortController().signal };
}

async function connect(store: EmbeddedStore): Promise<StoreConnection> {
  const connection = createStoreConnection({ url: store.url, log });
  await connection.whenReady(callOf(5_000));
  return connection;
}

async function pidOf(connection: StoreConnection): Promise<number> {
  return Number(/process_id:(\d+)/.exec(String(await connection.send("", ["INFO", "server"], callOf(2_000))))![1]);
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    // Where no process reaps orphans, one that has exited stays listed as a zombie.
    return !readFileSync(`/proc/${pid}/stat`, "latin1").includes(") Z ");
  } catch {
    return false;
  }
}

// A minimal service in a process that can be killed: this file itself, forked with a data directory.
const [role, serviceDataDir, servicePath] = process.argv.slice(2);
if (role === "service") {
  const store = await startEmbeddedStore({ dataDir: serviceDataDir!, path: servicePath!, log });
  const connection = await connect(store);
  await connection.send("k", ["SET", "k", "kept"], callOf(2_000));
  process.send!({ pid: await pidOf(connection), url: store.url });
} else {
  defineTests();
}

async function startService(
  dataDir: string,
  path: string,
): Promise<{ service: ChildProcess; storePid: number; url: EmbeddedStore["url"] }> {
  const service = fork(import.meta.filename, ["service", dataDir, path], { execArgv: [] });
  const [message] = (await once(service, "message")) as [{ pid: number; url: EmbeddedStore["url"] }];
  return { service, storePid: message.pid, url: message.url };
}

async function kill(service: ChildProcess): Promise<void> {
  const exited = once(service, "exit");
  service.kill("SIGKILL");
  await exited;
}

function defineTests(): void {
  let dataDir: string;
  before(async () => {
    dataDir = await mkdtemp(join(tmpdir(), "sa-embedded-"));
  });
  after(() => rm(dataDir, { recursive: true, force: true }));

  describe("a real store", { skip: redisServerMissing() }, () => {
    test("starts on a private socket, passes the probes, stops, and keeps its data", async () => {
      for (const expected of [null, Buffer.from("v")]) {
        const store = await startEmbeddedStore({ dataDir, log });
        assert.ok(store.url.kind === "single" && store.url.address.host === undefined);
        const { mode } = await stat(join(store.url.address.path, ".."));
        assert.equal(mode & 0o777, 0o700);
        const connection = await connect(store);
        assert.deepEqual((await probeStore(connection, callOf(5_000))).warnings, []);
        const config = String(await connection.send("", ["CONFIG", "GET", "[aps][pao][pvr][et]*"], callOf(2_000)));
        assert.match(config, /appendonly,yes/);
        assert.match(config, /appendfsync,always/);
        assert.match(config, /port,0/);
        assert.deepEqual(await connection.send("start", ["GET", "start"], callOf(2_000)), expected);
        await connection.send("start", ["SET", "start", "v"], callOf(2_000));
        const pid = await pidOf(connection);
        await connection.close();
        await store.stop();
        await store.stop();
        assert.equal(isRunning(pid), false);
      }
    });

    test("one service per data directory, also by another path", async () => {
      const store = await startEmbeddedStore({ dataDir, log });
      try {
        const other = join(dataDir, "..", dataDir.split("/").at(-1)!);
        await assert.rejects(startEmbeddedStore({ dataDir: other, log }), /in use by another .*process \d+/);
      } finally {
        await store.stop();
      }
    });

    test("of many that start at once exactly one gets the data directory, also after a kill", async () => {
      const first = await startService(dataDir, process.env["PATH"]!);
      await kill(first.service);
      const starts = await Promise.allSettled(Array.from({ length: 5 }, () => startEmbeddedStore({ dataDir, log })));
      const stores = starts.flatMap((start) => (start.status === "fulfilled" ? [start.value] : []));
      await Promise.all(stores.map((store) => store.stop()));
      assert.equal(stores.length, 1);
      for (const start of starts) if (start.status === "rejected") assert.match(String(start.reason), /in use/);
    });

    test("kill -9 of the service: the next one stops the orphaned store and has its data", async () => {
      const { service, storePid } = await startService(dataDir, process.env["PATH"]!);
      await kill(service);
      assert.ok(isRunning(storePid), "the orphan is what this test is about");
      const store = await startEmbeddedStore({ dataDir, log });
      try {
        assert.equal(isRunning(storePid), false);
        const connection = await connect(store);
        assert.notEqual(await pidOf(connection), storePid);
        assert.deepEqual(await connection.send("k", ["GET", "k"], callOf(2_000)), Buffer.from("kept"));
        await connection.close();
      } finally {
        await store.stop();
      }
    });

    test("kill -9 of the store: it is back within 2 s with every acknowledged write", async () => {
      const store = await startEmbeddedStore({ dataDir, log });
      const connection = await connect(store);
      try {
        for (let round = 0; round < 2; round++) {
          const writes = Array.from({ length: 200 }, (_, i) =>
            connection.send("n", ["HSET", "n", `${round}-${i}`, "x"], callOf(2_000)),
          );
          await Promise.all(writes);
          const pid = await pidOf(connection);
          const lost = new Promise<void>((resolve) => connection.onReadyChange((ready) => void (ready || resolve())));
          process.kill(pid, "SIGKILL");
          await lost;
          await connection.whenReady(callOf(2_000));
          assert.equal(await connection.send("n", ["HLEN", "n"], callOf(2_000)), 200 * (round + 1));
        }
      } finally {
        await connection.close();
        await store.stop();
      }
    });

    test("a store that does not start fails the start with its output", async () => {
      const broken = await mkdtemp(join(tmpdir(), "sa-broken-"));
      const store = await startEmbeddedStore({ dataDir: broken, log });
      await store.stop();
      const folder = join(broken, "store", "appendonlydir");
      const manifest = (await readdir(folder)).find((file) => file.endsWith(".manifest"))!;
      await writeFile(join(folder, manifest), "nonsense\n");
      await assert.rejects(startEmbeddedStore({ dataDir: broken, log }), /redis-server ended with code 1.*manifest/s);
      // The failed start released the data directory.
      await assert.rejects(startEmbeddedStore({ dataDir: broken, log }), /ended with code 1/);
      await rm(broken, { recursive: true });
    });
  });

  describe("js-redis-server, where nothing else is installed", () => {
    test("is used with a warning, passes the probes, and stops", async () => {
      const warnings: string[] = [];
      const loud = pino({ level: "warn" }, { write: (line: string) => void warnings.push(line) });
      const store = await startEmbeddedStore({ dataDir, log: loud, path: "" });
      const connection = await connect(store);
      assert.equal(store.kind, "js-redis-server");
      assert.match(warnings.join(), /sessions are lost when this process stops/);
      assert.equal((await probeStore(connection, callOf(8_000))).shebang, false);
      await connection.close();
      await store.stop();
      assert.ok(store.url.kind === "single" && store.url.address.host === undefined);
      await assert.rejects(stat(store.url.address.path), { code: "ENOENT" });
    });

    test("exits when the service is killed", async () => {
      const { service, url } = await startService(dataDir, "");
      const connection = createStoreConnection({ url, log });
      await connection.whenReady(callOf(5_000));
      await kill(service);
      const deadlineMs = performance.now() + 5_000;
      while (connection.isReady() && performance.now() < deadlineMs) await sleep(5);
      assert.equal(connection.isReady(), false);
      await connection.close();
    });
  });
}
