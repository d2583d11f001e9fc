// Several workers behind one address, as callers and operators see them.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { createServer, type AddressInfo } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";
import { status } from "@grpc/grpc-js";
import { type AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing, startRedisServer, type RedisServer } from "../helpers/redis_server.ts";
import {
  connect,
  isAlive,
  startOrFail,
  startService,
  workerOf,
  type ServiceProcess,
} from "../helpers/service_process.ts";
import { createWatchClient } from "../helpers/watch_client.ts";

const skip = redisServerMissing();
let redis: RedisServer;
let directory: string;
let service: ServiceProcess;

before(async () => {
  if (skip) return;
  directory = mkdtempSync(join(tmpdir(), "sa-workers-"));
  redis = await startRedisServer({ socket: true });
  service = await startService(variables());
});
after(async () => {
  if (skip) return;
  service?.signal("SIGTERM");
  await service?.ended;
  await redis.stop();
  rmSync(directory, { recursive: true });
});

function variables(more: Record<string, string> = {}): Record<string, string> {
  return {
    SA_STORE_URL: redis.url,
    SA_DATA_DIR: redis.dataDir,
    SA_GRPC_LISTEN: "127.0.0.1:0",
    SA_HTTP_LISTEN: "127.0.0.1:0",
    SA_WORKERS: "2",
    // Every call is logged, with its worker.
    SA_LOG_LEVEL: "debug",
    SA_LOG_SAMPLE: "1",
    ...more,
  };
}

/** Starts a service for this test only. */
async function start(t: TestContext, more: Record<string, string> = {}): Promise<ServiceProcess> {
  const started = await startService(variables(more));
  t.after(async () => {
    started.signal("SIGTERM");
    await started.ended;
  });
  return started;
}

/** Resolves to the worker of each client's connection. */
async function workersOf(to: ServiceProcess, clients: readonly AuthorityClient[]): Promise<number[]> {
  const workers: number[] = [];
  for (const client of clients) {
    workers.push(await workerOf(to, client));
  }
  return workers;
}

/** Connects one client to each worker. */
async function oneOfEach(t: TestContext, to: ServiceProcess): Promise<[AuthorityClient, AuthorityClient]> {
  const clients = connect(t, to, 4);
  const workers = await workersOf(to, clients);
  const other = clients[workers.findIndex((worker) => worker !== workers[0])];
  return [clients[0]!, other!];
}

async function textOf(address: string, path: string): Promise<string> {
  const [response] = (await once(request(`http://${address}${path}`, { agent: false }).end(), "response")) as [
    AsyncIterable<Buffer> & { statusCode: number },
  ];
  let text = "";
  for await (const chunk of response) text += String(chunk);
  return response.statusCode === 200 ? text : `${response.statusCode} ${text}`;
}

async function metric(to: ServiceProcess, name: string): Promise<number> {
  const line = (await textOf(to.http, "/metrics")).split("\n").find((each) => each.startsWith(`${name} `));
  return Number(line?.split(" ")[1] ?? 0);
}

describe("two workers", { skip }, () => {
  test("both serve the connections of one address, on both listeners", async (t) => {
    assert.equal(service.serving["workers"], 2);
    assert.equal(service.workers().length, 2);
    assert.deepEqual(new Set(await workersOf(service, connect(t, service, 6))), new Set(service.workers()));
    const from = service.lines().length;
    for (let i = 0; i < 4; i++) assert.match(await textOf(service.http, "/readyz"), /"ready":true/);
    const call = { method: "POST", agent: false, headers: { "content-type": "application/json" } };
    const path = "/session.v1.SessionService/CreateSession";
    for (let i = 0; i < 6; i++) {
      const [response] = await once(request(`http://${service.http}${path}`, call).end('{"user_id":"h"}'), "response");
      assert.equal((response as { statusCode: number }).statusCode, 200);
    }
    const served = service
      .lines()
      .slice(from)
      .filter(({ msg }) => msg === "call");
    assert.deepEqual(new Set(served.map((line) => line["worker"])), new Set(service.workers()));
  });

  test("a change that one of them makes reaches the watchers of both", async (t) => {
    const watchClients = Array.from({ length: 4 }, () => createWatchClient(service.grpc));
    t.after(() => watchClients.forEach((each) => each.close()));
    const streams = watchClients.map((each) => each.watch());
    for (const stream of streams) await stream.opened();
    assert.equal(await metric(service, "session_authority_watchers"), 4);
    for (const client of await oneOfEach(t, service)) {
      const { session } = await client.createSession({ userId: "seen" });
      const { sessionId } = session!;
      const received = streams.map((stream) =>
        stream.until((event) => event.case === "invalidation" && event.value.sessionId === sessionId),
      );
      await client.invalidateSession({ sessionId });
      await Promise.all(received);
    }
  });

  test("/metrics of any worker covers all of them, and no counter goes back when one dies", async (t) => {
    const own = await start(t);
    const clients = connect(t, own, 6);
    await workersOf(own, clients);
    const counter = 'session_authority_calls_total{method="CreateSession",code="OK"}';
    for (let i = 0; i < 4; i++) assert.equal(await metric(own, counter), 6);
    assert.equal(await metric(own, 'session_authority_call_duration_seconds_count{method="CreateSession"}'), 6);
    assert.equal(await metric(own, "session_authority_ready"), 1);
    assert.equal(await metric(own, "session_authority_workers"), 2);
    const from = own.lines().length;
    process.kill(own.workers()[0]!, "SIGKILL");
    await own.line(({ msg }) => msg.startsWith("worker died"), from);
    assert.equal(await metric(own, counter), 6);
    assert.equal(await metric(own, "session_authority_workers"), 1);
    await own.workerReady(from);
    await workersOf(own, connect(t, own, 2));
    assert.equal(await metric(own, counter), 8);
    assert.equal(await metric(own, "session_authority_workers"), 2);
  });

  test("a scrape does not wait for a worker that hangs, and includes its last report", async (t) => {
    const own = await start(t);
    await workersOf(own, connect(t, own, 4));
    const counter = 'session_authority_calls_total{method="CreateSession",code="OK"}';
    assert.equal(await metric(own, counter), 4);
    const [hanging] = own.workers();
    process.kill(hanging!, "SIGSTOP");
    try {
      const startedMs = performance.now();
      // Either worker may get the connection. Only the other one can respond.
      const scrapes = [metric(own, counter), metric(own, counter)];
      assert.equal(await Promise.race(scrapes), 4);
      assert.ok(performance.now() - startedMs < 3000);
    } finally {
      process.kill(hanging!, "SIGCONT");
    }
  });
});

describe("shutdown", { skip, concurrency: true }, () => {
  for (const [signal, to] of [["SIGTERM", undefined] as const, ["SIGINT", "group"] as const]) {
    test(`${signal}${to ? " from a terminal" : ""}: calls finish, watch streams end with a status, and no process is left`, async (t) => {
      const own = await startService(variables());
      const clients = connect(t, own, 4);
      const sessions = await Promise.all(clients.map((client) => client.createSession({ userId: "last" })));
      const watchClients = clients.map(() => createWatchClient(own.grpc));
      t.after(() => watchClients.forEach((each) => each.close()));
      const streams = watchClients.map((each) => each.watch());
      for (const stream of streams) await stream.opened();
      // Each takes three seconds, and has begun when the watch reports its session.
      const calls = clients.map((client, i) =>
        client.invalidateSession({ sessionId: sessions[i]!.session!.sessionId, barrier: true }, { timeoutMs: 8000 }),
      );
      for (const each of sessions) {
        const { sessionId } = each.session!;
        await streams[0]!.until((event) => event.case === "invalidation" && event.value.sessionId === sessionId);
      }
      const workers = own.workers();
      const startedMs = performance.now();
      own.signal(signal, to);
      for (const stream of streams) {
        const end = await stream.ended;
        assert.deepEqual([end?.code, end?.reason, end?.retryInfo], [status.UNAVAILABLE, "SHUTTING_DOWN", true]);
      }
      for (const call of calls) assert.equal((await call).deleted, true);
      assert.equal(await own.ended, 0);
      assert.ok(performance.now() - startedMs < 10_000);
      assert.deepEqual(workers.filter(isAlive), []);
      assert.deepEqual(
        own.lines().filter(({ level }) => level === "error" || level === "fatal"),
        [],
      );
    });
  }

  test("a call that does not end is cut off within the drain time", async (t) => {
    const own = await startService(variables({ SA_DRAIN_TIMEOUT: "1s" }));
    const [client] = connect(t, own, 1);
    const { session } = await client!.createSession({ userId: "slow" });
    const watchClient = createWatchClient(own.grpc);
    t.after(() => watchClient.close());
    const stream = watchClient.watch();
    await stream.opened();
    const call = client!.invalidateSession({ sessionId: session!.sessionId, barrier: true });
    call.catch(() => undefined);
    await stream.until((event) => event.case === "invalidation");
    const startedMs = performance.now();
    own.signal("SIGTERM");
    assert.equal(await own.ended, 0);
    assert.ok(performance.now() - startedMs < 2500);
    await assert.rejects(call);
  });

  test("workers whose primary was killed exit by themselves, and the address is free", async () => {
    const own = await startService(variables());
    const workers = own.workers();
    own.signal("SIGKILL");
    assert.equal(await own.ended, "SIGKILL");
    assert.deepEqual(workers.filter(isAlive), []);
    assert.equal(own.lines().filter(({ msg }) => msg.startsWith("the primary process is gone")).length, 2);
    const again = await startService(variables({ SA_GRPC_LISTEN: own.grpc, SA_HTTP_LISTEN: own.http }));
    again.signal("SIGTERM");
    assert.equal(await again.ended, 0);
  });
});

describe("a start that fails is reported once, with exit code 1", { skip, concurrency: true }, () => {
  async function failedStart(more: Record<string, string>) {
    const failed = await startOrFail(variables(more));
    assert.ok("code" in failed);
    assert.equal(failed.code, 1);
    assert.equal(failed.stderr.match(/cannot start/g)?.length, 1, failed.stderr);
    return failed.stderr;
  }

  test("an address in use", async () => {
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    const address = `127.0.0.1:${(taken.address() as AddressInfo).port}`;
    const stderr = await failedStart({ SA_HTTP_LISTEN: address });
    taken.close();
    assert.match(
      stderr,
      /^session-authority: cannot start: .*EADDRINUSE.*\n {2}hint: another process has that address/,
    );
  });

  test("a store that cannot be reached", async () => {
    const stderr = await failedStart({ SA_STORE_URL: "redis://127.0.0.1:1" });
    assert.match(stderr, /^session-authority: cannot start: .*\n {2}hint: is the store up/);
  });

  test("a file that no worker can use", async () => {
    const file = join(directory, "broken_keys.json");
    writeFileSync(file, "{}");
    const stderr = await failedStart({ SA_TOKEN_KEYS_FILE: file });
    assert.match(stderr, /^session-authority: cannot start: .*broken_keys\.json/);
  });
});

describe("Unix sockets", { skip }, () => {
  test("only the owner may connect; the socket of a killed service is replaced, that of a live one is not", async (t) => {
    const sockets = { SA_GRPC_LISTEN: `unix:${join(directory, "g")}`, SA_HTTP_LISTEN: `unix:${join(directory, "h")}` };
    const killed = await startService(variables(sockets));
    killed.signal("SIGKILL");
    await killed.ended;
    const own = await start(t, sockets);
    for (const name of ["g", "h"]) assert.equal(statSync(join(directory, name)).mode & 0o777, 0o600);
    const second = await startOrFail(variables({ ...sockets, SA_WORKERS: "1" }));
    assert.match("stderr" in second ? second.stderr : "", /is in use by another process/);
    assert.deepEqual(new Set(await workersOf(own, connect(t, own, 4))), new Set(own.workers()));
  });
});

describe(
  "TLS",
  { skip: skip || (spawnSync("openssl", ["version"]).error ? "openssl is not installed" : false) },
  () => {
    test("is served by the workers, and healthcheck reaches them over both listeners", async (t) => {
      const [key, cert] = [join(directory, "key.pem"), join(directory, "cert.pem")];
      const made = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost`;
      spawnSync("openssl", [...made.split(" "), "-keyout", key, "-out", cert], { stdio: "ignore" });
      const env = {
        SA_GRPC_LISTEN: `unix:${join(directory, "tls-g")}`,
        SA_HTTP_LISTEN: `unix:${join(directory, "tls-h")}`,
        SA_TLS_CERT_FILE: cert,
        SA_TLS_KEY_FILE: key,
      };
      await start(t, env);
      // More often than there are workers.
      for (const off of [{}, {}, {}, { SA_HTTP_LISTEN: "off" }, { SA_HTTP_LISTEN: "off" }, { SA_HTTP_LISTEN: "off" }]) {
        const options = {
          env: { PATH: process.env["PATH"], ...variables({ ...env, ...off }) },
          encoding: "utf8",
        } as const;
        const { status: code, stdout, stderr } = spawnSync(process.execPath, ["src/main.ts", "healthcheck"], options);
        assert.deepEqual([code, stderr], [0, ""]);
        assert.match(stdout, /^ready: /);
      }
    });
  },
);

describe("one worker", { skip }, () => {
  test("is the only process", async (t) => {
    const own = await start(t, { SA_WORKERS: "1" });
    const { stdout } = spawnSync("ps", ["-o", "pid=", "--ppid", String(own.pid)], { encoding: "utf8" });
    assert.equal(stdout, "");
    assert.equal("workers" in own.serving, false);
    assert.doesNotMatch(await textOf(own.http, "/metrics"), /session_authority_workers/);
  });
});

describe("the embedded store", { skip }, () => {
  test("is one for all workers, and keeps the sessions", async (t) => {
    const dataDir = join(directory, "data");
    const { SA_STORE_URL: _, ...env } = variables({ SA_DATA_DIR: dataDir });
    const first = await startService(env);
    const [one, other] = await oneOfEach(t, first);
    const { token } = await one.createSecureSession({ userId: "kept" });
    assert.equal((await other.validateToken({ token })).session?.userId, "kept");
    first.signal("SIGTERM");
    assert.equal(await first.ended, 0);
    const second = await startService(env);
    t.after(async () => {
      second.signal("SIGTERM");
      await second.ended;
    });
    for (const client of await oneOfEach(t, second)) {
      assert.equal((await client.validateToken({ token })).session?.userId, "kept");
    }
  });
});
