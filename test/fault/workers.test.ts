// Workers that die: what is lost with a worker, how it is replaced, and what callers and caches notice.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectTcp, createServer, type AddressInfo, type Socket } from "node:net";
import { after, before, describe, test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { createSessionClient } from "../../src/client/index.ts";
import type { CallError } from "../helpers/grpc_client.ts";
import { redisServerMissing, startRedisServer, type RedisServer } from "../helpers/redis_server.ts";
import { connect, startService, workerOf, type ServiceProcess } from "../helpers/service_process.ts";
import { createWatchClient } from "../helpers/watch_client.ts";

const skip = redisServerMissing();
let redis: RedisServer;
before(async () => {
  if (!skip) redis = await startRedisServer({ socket: true });
});
after(async () => {
  if (!skip) await redis.stop();
});

async function start(t: TestContext, more: Record<string, string> = {}): Promise<ServiceProcess> {
  const service = await startService({
    SA_STORE_URL: redis.url,
    SA_DATA_DIR: redis.dataDir,
    SA_GRPC_LISTEN: "127.0.0.1:0",
    SA_HTTP_LISTEN: "127.0.0.1:0",
    SA_WORKERS: "2",
    SA_LOG_LEVEL: "debug",
    SA_LOG_SAMPLE: "1",
    ...more,
  });
  t.after(async () => {
    service.signal("SIGTERM");
    await service.ended;
  });
  return service;
}

const died = ({ msg }: { msg: string }) => msg.startsWith("worker died");

describe("a worker that dies", { skip }, () => {
  test("fails only its own calls, and is replaced by one that serves", async (t) => {
    const service = await start(t);
    const clients = connect(t, service, 8);
    const workers: number[] = [];
    for (const client of clients) workers.push(await workerOf(service, client));
    const victim = workers[0]!;
    const others = new Set(workers.filter((worker) => worker !== victim));
    assert.equal(others.size, 1);

    let over = false;
    const busy = clients.map(() => Promise.withResolvers<void>());
    const results = clients.map(async (client, i) => {
      const result = { own: workers[i] === victim, calls: 0, after: 0, faults: [] as CallError[] };
      while (!over) {
        try {
          await client.createSession({ userId: `busy-${i}` });
          result.calls++;
          busy[i]!.resolve();
          result.after = result.faults.length === 0 ? 0 : result.after + 1;
        } catch (error) {
          result.faults.push(error as CallError);
          await sleep(20);
        }
      }
      return result;
    });
    await Promise.all(busy.map(({ promise }) => promise));
    const from = service.lines().length;
    process.kill(victim, "SIGKILL");
    const line = await service.line(died, from);
    assert.deepEqual([line["worker"], line["how"], line["delayMs"]], [victim, "by SIGKILL", 0]);
    const replacement = await service.workerReady(from);
    over = true;
    for (const { own, calls, faults, after } of await Promise.all(results)) {
      assert.ok(calls > 0);
      if (!own) assert.deepEqual(faults, []);
      for (const fault of faults) assert.equal(fault.code, status.UNAVAILABLE, String(fault));
      if (own) assert.ok(after > 0, "a client of the dead worker was not served again");
    }
    const served: number[] = [];
    for (const client of connect(t, service, 4)) served.push(await workerOf(service, client));
    assert.deepEqual(new Set(served), new Set([...others, replacement]));
  });

  test("loses one connection of a listener at most, the one that is on its way to it", async (t) => {
    const service = await start(t);
    const [victim] = service.workers();
    const [host, port] = service.http.split(":") as [string, string];
    process.kill(victim!, "SIGSTOP");
    // The worker that stands still gets one of these. It gets no other before it has taken that one.
    const sockets = Array.from({ length: 8 }, () => connectTcp(Number(port), host));
    t.after(() => sockets.forEach((socket) => socket.destroy()));
    await Promise.all(sockets.map((socket) => once(socket, "connect")));
    const responses: string[] = [];
    const allButOne = Promise.withResolvers<void>();
    for (const socket of sockets) {
      const response = responseOf(socket);
      response.then(
        (text) => responses.push(text) === sockets.length - 1 && allButOne.resolve(),
        // The lost one is closed by the end of the test.
        () => undefined,
      );
    }
    await allButOne.promise;
    process.kill(victim!, "SIGKILL");
    for (const response of responses) assert.match(response, /^HTTP\/1\.1 200 OK/);
  });

  test("is replaced on the same addresses even when all of them die", async (t) => {
    const service = await start(t, { SA_GRPC_LISTEN: `127.0.0.1:${await freePort()}` });
    const from = service.lines().length;
    for (const worker of service.workers()) process.kill(worker, "SIGKILL");
    await service.line((line) => died(line) && service.lines().filter(died).length === 2, from);
    await service.workerReady(from);
    const [client] = connect(t, service, 1);
    await client!.createSession({ userId: "patient" }, { timeoutMs: 10_000 });
  });

  test("again and again is replaced after longer and longer delays", async (t) => {
    const service = await start(t);
    const delays: number[] = [];
    for (let i = 0; i < 3; i++) {
      const from = service.lines().length;
      process.kill(service.workers().at(-1)!, "SIGKILL");
      delays.push(Number((await service.line(died, from))["delayMs"]));
      await service.workerReady(from);
    }
    assert.equal(delays[0], 0);
    assert.ok(delays[1]! >= 200 && delays[1]! <= 400, String(delays[1]));
    assert.ok(delays[2]! >= 400 && delays[2]! <= 800, String(delays[2]));
  });

  test("of an uncaught exception logs it first", async (t) => {
    const planted = `process.on("SIGUSR2", () => setImmediate(() => { throw new Error("planted"); }));`;
    const service = await start(t, { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(planted)}` });
    const [victim] = service.workers();
    const from = service.lines().length;
    process.kill(victim!, "SIGUSR2");
    const fatal = await service.line(({ level }) => level === "fatal", from);
    assert.deepEqual([fatal.msg, fatal["worker"]], ["uncaught exception", victim]);
    assert.equal((await service.line(died, from))["how"], "with code 1");
    await service.workerReady(from);
  });

  test("during a shutdown does not delay it", async (t) => {
    const service = await start(t);
    const [client] = connect(t, service, 1);
    const { session } = await client!.createSession({ userId: "held" });
    const worker = await workerOf(service, client!);
    const watchClient = createWatchClient(service.grpc);
    t.after(() => watchClient.close());
    const stream = watchClient.watch();
    await stream.opened();
    const call = client!.invalidateSession({ sessionId: session!.sessionId, barrier: true });
    call.catch(() => undefined);
    await stream.until((event) => event.case === "invalidation");
    const from = service.lines().length;
    service.signal("SIGTERM");
    await stream.ended;
    process.kill(worker, "SIGKILL");
    assert.equal(await service.ended, 0);
    // How grpc-js reports a connection that is cut after its GOAWAY depends on which frame it was reading.
    await assert.rejects(call, (error: CallError) => [status.UNAVAILABLE, status.INTERNAL].includes(error.code));
    assert.equal(service.lines().slice(from).some(died), false);
  });
});

describe("the cached client of several workers", { skip }, () => {
  test("serves from memory while its connection changes, and never a session that has ended", async (t) => {
    // A dozen connections, now to this worker and now to that, in the time of four leases.
    const service = await start(t, { SA_MAX_CONNECTION_AGE: "1s" });
    const [owner] = connect(t, service, 1);
    const client = createSessionClient({ address: service.grpc });
    t.after(() => client.close());
    let resets = 0;
    client.onReset(() => resets++);
    while (client.statistics().safeForMs === 0) await sleep(5);
    const live = new Set<string>();
    const create = async () => live.add((await owner!.createSession({ userId: "cached" })).session!.sessionId);
    for (let i = 0; i < 50; i++) await create();

    let [unsafe, looks] = [0, 0];
    for (const endMs = performance.now() + 12_000; performance.now() < endMs;) {
      // No cache returns the session after the call has ended.
      const [ending] = live;
      const barrier = owner!.invalidateSession({ sessionId: ending!, barrier: true });
      live.delete(ending!);
      await create();
      // A connection more shifts whose turn it is.
      await workerOf(service, connect(t, service, 1)[0]!);
      for (let left = 60; left > 0; left--) {
        for (const id of live) assert.ok((await client.getSession(id)) !== undefined, "a live session was refused");
        looks++;
        if (client.statistics().safeForMs === 0) unsafe++;
        await sleep(50);
      }
      await barrier;
      assert.equal(await client.getSession(ending!), undefined);
    }
    const { hits, misses, bypasses } = client.statistics();
    t.diagnostic(`${hits} hits, ${misses} misses, ${bypasses} bypasses; unsafe in ${unsafe} of ${looks} looks`);
    assert.ok(hits > 20 * (misses + bypasses), `${hits} hits, ${misses} misses, ${bypasses} bypasses`);
    assert.ok(unsafe <= looks / 20, `unsafe in ${unsafe} of ${looks} looks`);
    assert.equal(resets, 1, "only the opening of the first stream lost continuity");
  });
});

/** Requests /healthz and resolves to everything that the socket receives. */
async function responseOf(socket: Socket): Promise<string> {
  socket.write("GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
  let text = "";
  for await (const chunk of socket) text += String(chunk);
  return text;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
