// The cached client against a real service: what it serves from memory, what it sends to the service, and how it fails.

import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { hash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { inspect, promisify } from "node:util";
import { IpBinding } from "../../gen/session/v1/session_pb.ts";
import type { Invalidation, SessionClient, SessionClientOptions } from "../../src/client/index.ts";
import { createSessionClient, InvalidationReason, SessionClientError } from "../../src/client/index.ts";
import { assembleSessionClient, CLIENT_PARTS } from "../../src/client/client.ts";
import { startClientProxy } from "../helpers/client_proxy.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import { freePort, redisServerMissing } from "../helpers/redis_server.ts";
import { startServerProcess } from "../helpers/server_process.ts";

const skip = redisServerMissing();
const CLIENT = new URL("../../src/client/index.ts", import.meta.url).pathname;
/** It has the form of a token, but no service has made it. */
const NO_TOKEN = `sat1_${"x".repeat(116)}`;
const unhandled: unknown[] = [];
process.on("unhandledRejection", (error) => unhandled.push(error));

let authorities: Authorities;
let address: string;

before(async () => {
  if (skip) return;
  authorities = await startAuthorities({ touchIntervalMs: 0, env: { SA_ROTATION_GRACE: "1s" } });
  address = authorities.servers[0]!.addresses.grpc!;
});
after(async () => {
  await authorities?.close();
  assert.deepEqual(unhandled, []);
});

/** Opens a client that the test closes; if it has a cache, waits for its lease. */
async function open(t: TestContext, options: Partial<SessionClientOptions> = {}): Promise<SessionClient> {
  const client = createSessionClient({ address, timeoutMs: 2500, ...options });
  t.after(() => client.close());
  if (options.cache !== false) await until(() => client.statistics().safeForMs > 0, "the client got no lease");
  return client;
}

async function until(done: () => boolean, otherwise: string, timeoutMs = 10_000): Promise<void> {
  for (const deadlineMs = performance.now() + timeoutMs; !done(); await sleep(5)) {
    if (performance.now() > deadlineMs) assert.fail(otherwise);
  }
}

const service = () => authorities.clients[0]!;
const seconds = (count: number) => ({ seconds: BigInt(count), nanos: 0 });
const login = async (userId: string, more = {}) => (await service().createSession({ userId, ...more })).session!;
const counts = (client: SessionClient) => {
  const { hits, misses, bypasses, entries } = client.statistics();
  return { hits, misses, bypasses, entries };
};

describe("the cached client", { skip, concurrency: true }, () => {
  test("it serves a session from memory until the session ends", async (t) => {
    const client = await open(t);
    const { session, token } = await service().createSecureSession({ userId: "uma", data: { theme: "dark" } });
    const found = await client.validateToken(token);
    assert.equal(found?.sessionId, session!.sessionId);
    assert.equal(await client.validateToken(token), found);
    assert.deepEqual(counts(client), { hits: 1, misses: 1, bypasses: 0, entries: 1 });
    await service().deleteSession({ sessionId: session!.sessionId });
    await until(() => client.statistics().entries === 0, "the client received no invalidation");
    assert.equal(await client.validateToken(token), undefined);
  });

  test("it sends no text that cannot be a token or an id", async (t) => {
    const client = await open(t);
    for (const text of ["nonsense", "", "x".repeat(257), "\ud800", `${NO_TOKEN}x`, `${NO_TOKEN.slice(0, -1)}=`]) {
      assert.equal(await client.validateToken(text), undefined);
      assert.equal(await client.getSession(text), undefined);
    }
    assert.deepEqual(counts(client), { hits: 0, misses: 0, bypasses: 0, entries: 0 });
  });

  test("1,000 concurrent misses of a session are one request, and 1,000 of a dead one too (cases/watch.md 4)", async (t) => {
    const { session, token } = await service().createSecureSession({ userId: "crowd" });
    const late = withHeldResponses(address);
    const client = await late.open(t);
    const lookups: Promise<unknown>[] = [];
    // In several turns of the event loop, so that they do not only share a batch.
    for (let turn = 0; turn < 10; turn++) {
      for (let n = 0; n < 100; n++) lookups.push(client.validateToken(token));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await until(() => late.held() > 0, "no request was sent");
    late.release();
    for (const found of await Promise.all(lookups)) {
      assert.equal((found as { sessionId: string }).sessionId, session!.sessionId);
    }
    assert.deepEqual([late.held(), client.statistics().misses], [1, 1000]);
    await service().revokeToken({ token });
    await until(() => client.statistics().entries === 0, "the client received no invalidation");
    for (let n = 0; n < 1000; n++) assert.equal(await client.validateToken(token), undefined);
    assert.equal(late.held(), 2);
  });

  test("a lookup after an invalidation does not share the request that was sent before it", async (t) => {
    const { session, token } = await service().createSecureSession({ userId: "shared" });
    let invalidated = false;
    const late = withHeldResponses(address);
    const client = await late.open(t);
    client.onInvalidated(({ sessionId }) => void (invalidated ||= sessionId === session!.sessionId));
    const first = client.validateToken(token);
    await until(() => late.held() === 1, "the request was not sent");
    await service().revokeToken({ token });
    await until(() => invalidated, "the client received no invalidation");
    const second = client.validateToken(token);
    late.release();
    assert.equal((await first)?.sessionId, session!.sessionId);
    assert.equal(await second, undefined);
    assert.equal(client.statistics().entries, 0);
  });

  test("one token from 5,000 addresses is one entry, unless its session compares addresses (cases/watch.md 5)", async (t) => {
    const client = await open(t, { cache: { maxEntries: 10 } });
    const kept = await Promise.all(
      ["one", "two", "three"].map(async (user) => (await login(`kept-${user}`)).sessionId),
    );
    for (const id of kept) await client.getSession(id);
    const { sessionId } = await login("everywhere", { ipAddress: "192.0.2.1" });
    for (let n = 0; n < 5000; n++)
      assert.ok(await client.getSession(sessionId, { ipAddress: `10.0.${n >> 8}.${n & 255}` }));
    assert.deepEqual(counts(client), { hits: 4999, misses: 4, bypasses: 0, entries: 4 });
    for (const id of kept) await client.getSession(id);
    assert.equal(client.statistics().misses, 4);

    const bound = await login("bound", { ipAddress: "192.0.2.1", ipBinding: IpBinding.INVALIDATE });
    assert.equal(
      (await client.getSession(bound.sessionId, { ipAddress: "192.0.2.1" }))?.ipBinding,
      IpBinding.INVALIDATE,
    );
    assert.equal(await client.getSession(bound.sessionId, { ipAddress: "198.51.100.7" }), undefined);
  });

  test("waitUntilReady resolves with the lease, and rejects with the reason", async (t) => {
    const client = createSessionClient({ address });
    t.after(() => client.close());
    await client.waitUntilReady();
    assert.ok(client.statistics().safeForMs > 0);
    const uncached = createSessionClient({ address, cache: false });
    t.after(() => uncached.close());
    await uncached.waitUntilReady();
    for (const cache of [undefined, false] as const) {
      const nowhere = createSessionClient({
        address: `127.0.0.1:${await freePort()}`,
        ...(cache === false && { cache }),
      });
      t.after(() => nowhere.close());
      await assert.rejects(nowhere.waitUntilReady({ timeoutMs: 200 }), /UNAVAILABLE|no lease/);
    }
    const closed = createSessionClient({ address: `127.0.0.1:${await freePort()}` });
    const waiting = closed.waitUntilReady();
    closed.close();
    await assert.rejects(waiting, /the client is closed/);
    await assert.rejects(closed.waitUntilReady(), /the client is closed/);
  });

  test("options that cannot work are refused, and no error holds the API key", () => {
    for (const maxEntries of [NaN, 0, -1, 1.5, Infinity]) {
      assert.throws(() => createSessionClient({ address, cache: { maxEntries } }), RangeError);
    }
    for (const apiKey of ["secret-key\n", "secret-key\r\n", " secret-key", "", "secret-kéy"]) {
      assert.throws(
        () => createSessionClient({ address, credentials: { apiKey } }),
        (error: Error) => error instanceof TypeError && !inspect(error).includes("secret"),
      );
    }
  });

  test("an error has the code and the reason", async (t) => {
    const client = createSessionClient({ address: `127.0.0.1:${await freePort()}`, timeoutMs: 200 });
    t.after(() => client.close());
    const error = await client.validateToken(NO_TOKEN).catch((thrown: unknown) => thrown);
    assert.ok(error instanceof SessionClientError);
    assert.ok(error.code === 14 || error.code === 4);
    assert.equal(InvalidationReason.DELETED, 1);
  });

  test("a malformed lookup does not affect others of the same tick", async (t) => {
    const client = await open(t);
    const { sessionId } = await login("vic");
    const [good, bad] = await Promise.all([client.getSession(sessionId), client.validateToken("x".repeat(1000))]);
    assert.deepEqual([good?.sessionId, bad], [sessionId, undefined]);
  });

  test("an address of any length is sent, cut at 256 bytes", async (t) => {
    const client = await open(t);
    const ipAddress = "x".repeat(256);
    const { sessionId } = await login("wes", { ipAddress, ipBinding: IpBinding.INVALIDATE });
    const lookups = Array.from({ length: 3 }, (_, n) =>
      client.getSession(sessionId, { ipAddress: ipAddress + "y".repeat(n) }),
    );
    for (const session of await Promise.all(lookups)) assert.equal(session?.sessionId, sessionId);
    assert.equal(await client.getSession(sessionId, { ipAddress: ipAddress.slice(1) + "\ud800" }), undefined);
  });

  test("lookups of one tick travel in one request, or in several if there are many", async (t) => {
    const client = await open(t);
    const ids = await Promise.all(Array.from({ length: 900 }, async (_, i) => (await login(`tick-${i}`)).sessionId));
    const calls = () => metric('method="BatchValidate"');
    const before = await calls();
    const found = await Promise.all(ids.map((id) => client.getSession(id)));
    assert.deepEqual(
      found.map((session) => session?.sessionId),
      ids,
    );
    const messages = (await calls()) - before;
    assert.ok(messages >= 3 && messages < 30, `${messages} messages`);
    assert.deepEqual(counts(client), { hits: 0, misses: 900, bypasses: 0, entries: 900 });
  });

  test("it holds at most maxEntries", async (t) => {
    const client = await open(t, { cache: { maxEntries: 3 } });
    for (let i = 0; i < 6; i++) await client.getSession((await login(`bound-${i}`)).sessionId);
    assert.equal(client.statistics().entries, 3);
  });

  test("an invalidation removes both keys of a session", async (t) => {
    const client = await open(t);
    const { sessionId } = await login("two", { ipAddress: "192.0.2.1", ipBinding: IpBinding.WARN });
    await client.getSession(sessionId);
    await client.getSession(sessionId, { ipAddress: "192.0.2.1" });
    assert.equal(client.statistics().entries, 2);
    await service().updateSessionData({ sessionId, data: { changed: true } });
    await until(() => client.statistics().entries === 0, "the client received no invalidation");
    assert.deepEqual((await client.getSession(sessionId))?.data, { changed: true });
  });

  test("an entry expires exactly when its session does", async (t) => {
    const client = await open(t);
    const { sessionId } = await login("brief", { absoluteTimeout: seconds(3), idleTimeout: seconds(3) });
    const createdMs = performance.now();
    let lastValidMs = 0;
    while ((await client.getSession(sessionId)) !== undefined) {
      lastValidMs = performance.now() - createdMs;
      await sleep(2);
    }
    assert.ok(lastValidMs > 1500 && lastValidMs <= 3000, `valid for ${lastValidMs} ms`);
    assert.ok(client.statistics().hits > 10);
  });

  test("a busy session that is served from memory does not idle out; an unused one does", async (t) => {
    const client = await open(t);
    const busy = await login("busy", { idleTimeout: seconds(3) });
    const idle = await login("idle", { idleTimeout: seconds(3) });
    await client.getSession(idle.sessionId);
    for (const endMs = performance.now() + 8000; performance.now() < endMs; await sleep(10)) {
      assert.ok(await client.getSession(busy.sessionId), "the session idled out");
    }
    const { hits, misses } = client.statistics();
    assert.ok(hits > 20 * misses, `${hits} hits, ${misses} misses`);
    assert.equal(await client.getSession(idle.sessionId), undefined);
  });

  test("a session that is presented from another address always goes to the service", async (t) => {
    const client = await open(t);
    const { sessionId } = await login("ip", { ipAddress: "192.0.2.1", ipBinding: IpBinding.WARN });
    await client.getSession(sessionId, { ipAddress: "198.51.100.7" });
    assert.equal(client.statistics().entries, 0);
    await client.getSession(sessionId, { ipAddress: "192.0.2.1" });
    assert.equal(client.statistics().entries, 1);
  });

  test("a regenerated id is valid for its grace and not longer", async (t) => {
    const client = await open(t);
    const { sessionId } = await login("regenerated");
    const renewed = await service().regenerateSession({ sessionId, grace: seconds(1) });
    assert.equal((await client.getSession(sessionId))?.sessionId, renewed.session!.sessionId);
    await sleep(1200);
    assert.equal(await client.getSession(sessionId), undefined);
  });

  test("the session that callers share is frozen", async (t) => {
    const client = await open(t);
    const found = await client.getSession((await login("frozen", { data: { cart: ["book"] } })).sessionId);
    assert.throws(() => (found!.data!["cart"] as string[]).push("theft"), TypeError);
    assert.throws(() => (found!.userId = "root"), TypeError);
  });

  test("it reports every session that ends or changes, looked up or not, and survives a handler that throws", async (t) => {
    const client = await open(t, { cache: false });
    assert.equal(client.statistics().safeForMs, 0);
    const warnings: Error[] = [];
    const collect = (warning: Error) => warnings.push(warning);
    process.on("warning", collect);
    t.after(() => process.off("warning", collect));
    const received: Invalidation[] = [];
    let resets = 0;
    client.onReset(() => void resets++);
    client.onInvalidated(() => {
      throw new Error("a handler failed");
    });
    client.onInvalidated(async () => Promise.reject(new Error("a handler failed later")));
    const stop = client.onInvalidated((invalidation) => received.push(invalidation));
    await until(() => resets > 0, "the watch did not start");
    const { sessionId } = await login("reported");
    await service().deleteSession({ sessionId });
    const mine = () => received.filter((invalidation) => invalidation.sessionId === sessionId);
    await until(() => mine().length > 0, "the handler was not called");
    assert.equal(mine()[0]!.userId, "reported");
    await until(() => warnings.some(({ message }) => message === "a handler failed"), "no warning");
    await until(() => warnings.some(({ message }) => message === "a handler failed later"), "no warning");
    stop();
    const after = received.length;
    await service().deleteSession({ sessionId: (await login("reported")).sessionId });
    await sleep(100);
    assert.equal(received.length, after);
  });

  test("without a cache every lookup goes to the service", async (t) => {
    const client = await open(t, { cache: false });
    const { sessionId } = await login("uncached");
    await client.getSession(sessionId);
    await client.getSession(sessionId);
    assert.deepEqual(counts(client), { hits: 0, misses: 0, bypasses: 2, entries: 0 });
  });

  test("a rotated secret is valid for its grace and not longer", async (t) => {
    const client = await open(t);
    const { token } = await service().createSecureSession({ userId: "rotated" });
    await service().rotateToken({ token });
    await client.validateToken(token);
    await sleep(1300);
    assert.equal(await client.validateToken(token), undefined);
  });
});

describe("the cached client while the service comes and goes", { skip, concurrency: true }, () => {
  test("a client that starts before the service connects to it later, and fails closed when it is killed", async (t) => {
    const listen = `127.0.0.1:${await freePort()}`;
    const client = createSessionClient({ address: listen });
    t.after(() => client.close());
    await assert.rejects(client.validateToken(NO_TOKEN), { code: 14 });
    const server = await startServerProcess(authorities.redis, { SA_GRPC_LISTEN: listen });
    await until(() => client.statistics().safeForMs > 0, "the client did not connect");
    const { sessionId } = await login("early");
    assert.ok(await client.getSession(sessionId));

    await server.kill();
    const killedMs = performance.now();
    assert.ok(await client.getSession(sessionId), "the client must serve from memory within the lease");
    await until(() => client.statistics().safeForMs === 0, "the lease does not end");
    assert.ok(performance.now() - killedMs <= 3000);
    await assert.rejects(client.getSession(sessionId), { code: 14 });
    assert.match(client.statistics().watchError!, /UNAVAILABLE/);

    const again = await startServerProcess(authorities.redis, { SA_GRPC_LISTEN: listen });
    t.after(() => again.kill());
    await until(() => client.statistics().safeForMs > 0, "the client did not reconnect");
    assert.ok(await client.getSession(sessionId));
    assert.equal(client.statistics().watchError, undefined);
  });

  test("a client whose requests no longer arrive fails closed within the timeout", async (t) => {
    const proxy = await startClientProxy(address);
    const client = await open(t, { address: proxy.address, timeoutMs: 300 });
    t.after(() => proxy.stop());
    const { sessionId } = await login("hole");
    await client.getSession(sessionId);
    proxy.hold("toService", true);
    await until(() => client.statistics().safeForMs === 0, "one-way checkpoints keep the lease alive", 3500);
    const sentMs = performance.now();
    await assert.rejects(client.getSession(sessionId), { code: 4 });
    assert.ok(performance.now() - sentMs < 600);
    proxy.hold("toService", false);
    await until(() => client.statistics().safeForMs > 0, "the client does not recover");
    assert.ok(await client.getSession(sessionId));
  });

  test("close() rejects lookups that are under way and later ones", async () => {
    const proxy = await startClientProxy(address);
    const client = createSessionClient({ address: proxy.address });
    await until(() => client.statistics().safeForMs > 0, "the client got no lease");
    const { sessionId } = await login("closing");
    await client.getSession(sessionId);
    proxy.hold("toClient", true);
    const sent = client.validateToken(NO_TOKEN);
    await sleep(50);
    const queued = client.getSession("queued".padEnd(28, "x"));
    client.close();
    const startMs = performance.now();
    const outcomes = await Promise.allSettled([sent, queued, client.getSession(sessionId)]);
    assert.deepEqual(
      outcomes.map(({ status }) => status),
      ["rejected", "rejected", "rejected"],
    );
    assert.ok(performance.now() - startMs < 500);
    assert.deepEqual([client.statistics().entries, client.statistics().safeForMs], [0, 0]);
    client.close();
    await proxy.stop();
  });

  test("after close() the process can exit", async () => {
    const { sessionId } = await login("process");
    const use = (target: string) => `
      import { createSessionClient } from ${JSON.stringify(CLIENT)};
      const client = createSessionClient({ address: ${JSON.stringify(target)} });
      client.onInvalidated(() => undefined);
      await client.getSession(${JSON.stringify(sessionId)}).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, 300));
      client.getSession(${JSON.stringify(sessionId)}).catch(() => undefined);
      client.close();`;
    for (const target of [address, `127.0.0.1:${await freePort()}`]) {
      await promisify(execFile)("node", ["--input-type=module", "-e", use(target)], { timeout: 5000 });
    }
  });

  test("it sends its API key, and reports why a watch is refused", async (t) => {
    const key = (name: string, scopes: string[]) => ({ name, tenant: "default", sha256: hash("sha256", name), scopes });
    const file = join(authorities.redis.dataDir, "keys.json");
    writeFileSync(
      file,
      JSON.stringify({ keys: [key("backend", ["read", "watch"]), key("reader", ["read"]), key("watcher", ["watch"])] }),
    );
    const server = await startServerProcess(authorities.redis, { SA_API_KEYS_FILE: file });
    t.after(() => server.kill());
    const backend = await open(t, { address: server.address, credentials: { apiKey: "backend" } });
    const { sessionId } = await login("keyed");
    assert.ok(await backend.getSession(sessionId));

    const reader = createSessionClient({ address: server.address, credentials: { apiKey: "reader" } });
    t.after(() => reader.close());
    assert.ok(await reader.getSession(sessionId));
    await until(() => /PERMISSION_DENIED/.test(reader.statistics().watchError ?? ""), "no reason was reported");
    // Under a watch of references nothing may be served from memory.
    const watcher = createSessionClient({ address: server.address, credentials: { apiKey: "watcher" } });
    t.after(() => watcher.close());
    await until(() => /lacks the scope read/.test(watcher.statistics().watchError ?? ""), "no reason was reported");
    assert.equal(watcher.statistics().safeForMs, 0);
    await assert.rejects(watcher.getSession(sessionId), { code: 7 });
    const stranger = createSessionClient({ address: server.address, cache: false });
    t.after(() => stranger.close());
    await assert.rejects(stranger.getSession(sessionId), { code: 16 });
  });

  const noOpenssl = spawnSync("openssl", ["version"]).error ? "openssl is not installed" : false;
  test(
    "mutual TLS: a client with its certificate is accepted, one without it fails closed",
    { skip: noOpenssl },
    async (t) => {
      const certFile = join(authorities.redis.dataDir, "cert.pem");
      const keyFile = join(authorities.redis.dataDir, "key.pem");
      const made = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost
      -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout ${keyFile} -out ${certFile}`;
      spawnSync("openssl", made.split(/\s+/), { stdio: "ignore" });
      const server = await startServerProcess(authorities.redis, {
        SA_TLS_CERT_FILE: certFile,
        SA_TLS_KEY_FILE: keyFile,
        SA_TLS_CLIENT_CA_FILE: certFile,
      });
      t.after(() => server.kill());
      const tls = { caFile: certFile, certFile, keyFile };
      const client = await open(t, { address: server.address, credentials: { tls } });
      const { sessionId } = await login("tls");
      assert.ok(await client.getSession(sessionId));
      for (const credentials of [{}, { tls: {} }, { tls: { caFile: certFile } }]) {
        const stranger = createSessionClient({ address: server.address, credentials });
        t.after(() => stranger.close());
        await assert.rejects(stranger.getSession(sessionId));
        assert.equal(stranger.statistics().safeForMs, 0);
      }
    },
  );

  test("it rejects a timeout longer than the lease allows", () => {
    for (const timeoutMs of [0, 2501, NaN]) {
      assert.throws(() => createSessionClient({ address, timeoutMs }), RangeError);
    }
  });
});

/** Opens clients whose lookups get their responses when the test releases them. */
function withHeldResponses(address: string) {
  let held = 0;
  let release: () => void;
  const released = new Promise<void>((resolve) => (release = resolve));
  const parts = {
    ...CLIENT_PARTS,
    openConnection(...given: Parameters<typeof CLIENT_PARTS.openConnection>) {
      const connection = CLIENT_PARTS.openConnection(...given);
      const unary: typeof connection.unary = async (method, request, timeoutMs) => {
        const response = await connection.unary(method, request, timeoutMs);
        held++;
        await released;
        return response;
      };
      return { ...connection, unary };
    },
  };
  return {
    held: () => held,
    release: () => release(),
    async open(t: TestContext) {
      const client = assembleSessionClient({ address, timeoutMs: 2500 }, parts);
      t.after(() => client.close());
      await client.waitUntilReady();
      return client;
    },
  };
}

/** Returns the number of calls with these labels that the service has counted. */
async function metric(labels: string): Promise<number> {
  const page = await (await fetch(`http://${authorities.httpAddresses[0]}/metrics`)).text();
  const lines = page
    .split("\n")
    .filter((line) => !line.startsWith("#") && line.includes(labels) && /_count\{/.test(line));
  return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}
