// Staleness during faults: three cached clients of two instances look up sessions that end in every possible way.
//
// Takes about 30 s; STALENESS_SECONDS makes it longer.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { assembleSessionClient, CLIENT_PARTS } from "../../src/client/client.ts";
import type { SessionClient } from "../../src/client/index.ts";
import { withLateResponses } from "../helpers/late_responses.ts";
import { startClientProxy, type ClientProxy } from "../helpers/client_proxy.ts";
import { LEASE_MS, startProbe, type Probe, type Subject } from "../helpers/staleness_probe.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import { CallError, type AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

const skip = redisServerMissing();
const SECONDS = Number(process.env["STALENESS_SECONDS"] ?? 0);
const POPULATION = 60;
const NOT_FOUND = 5;

let authorities: Authorities;
before(async () => {
  // Acknowledged writes must survive a kill, or an ended session would be valid again in the store itself.
  const redisArgs = ["--appendonly", "yes", "--appendfsync", "always"];
  if (!skip) authorities = await startAuthorities({ instances: 2, redisArgs, env: { SA_ROTATION_GRACE: "0s" } });
});
after(() => authorities?.close());

/** Creates a session, and returns how to end it. */
type Ending = (
  by: AuthorityClient,
  userId: string,
) => Promise<Subject & { end(by: AuthorityClient): Promise<unknown> }>;

const byId = (id: string) => (client: SessionClient) => client.getSession(id);
const byToken = (token: string) => (client: SessionClient) => client.validateToken(token);
const idOf = (response: { session?: { sessionId: string } | undefined }) => response.session!.sessionId;

const ENDINGS: Record<string, Ending> = {
  async deleted(by, userId) {
    const sessionId = idOf(await by.createSession({ userId }));
    return { name: "deleted", lookUp: byId(sessionId), end: (via) => via.deleteSession({ sessionId }) };
  },
  async invalidated(by, userId) {
    const sessionId = idOf(await by.createHashSession({ userId, fields: { a: "1" } }));
    return { name: "invalidated", lookUp: byId(sessionId), end: (via) => via.invalidateSession({ sessionId }) };
  },
  async "all of a user"(by, userId) {
    const sessionId = idOf(await by.createSession({ userId }));
    return { name: "all of a user", lookUp: byId(sessionId), end: (via) => via.deleteUserSessions({ userId }) };
  },
  async "of a device"(by, userId) {
    const sessionId = idOf(await by.createDeviceSession({ userId, device: { deviceId: "phone" } }));
    const end = (via: AuthorityClient) => via.revokeDevice({ userId, deviceId: "phone" });
    return { name: "of a device", lookUp: byId(sessionId), end };
  },
  async regenerated(by, userId) {
    const sessionId = idOf(await by.createSession({ userId }));
    return { name: "regenerated", lookUp: byId(sessionId), end: (via) => via.regenerateSession({ sessionId }) };
  },
  async evicted(by, userId) {
    const sessionId = idOf(await by.createSession({ userId }));
    const end = (via: AuthorityClient) => via.createSession({ userId, limit: { maxSessions: 1, onExceed: 2 } });
    return { name: "evicted", lookUp: byId(sessionId), end };
  },
  async "token revoked"(by, userId) {
    const { token } = await by.createSecureSession({ userId });
    return { name: "token revoked", lookUp: byToken(token), end: (via) => via.revokeToken({ token }) };
  },
  async "token rotated"(by, userId) {
    const { token } = await by.createSecureSession({ userId });
    return { name: "token rotated", lookUp: byToken(token), end: (via) => via.rotateToken({ token }) };
  },
  async "behind a barrier"(by, userId) {
    const sessionId = idOf(await by.createSession({ userId }));
    const subject: Subject = { name: "behind a barrier", lookUp: byId(sessionId) };
    const end = async (via: AuthorityClient) => {
      await via.invalidateSession({ sessionId, barrier: true });
      subject.barrierMs = performance.now();
    };
    return Object.assign(subject, { end });
  },
};

test("no cached client serves a session later than a lease after its end, whatever the fault", { skip }, async (t) => {
  const [first, second] = authorities.servers.map((server) => server.addresses.grpc!) as [string, string];
  const proxies = await Promise.all([first, second, first].map(startClientProxy));
  const parts = [CLIENT_PARTS, CLIENT_PARTS, withLateResponses(CLIENT_PARTS, () => Math.random() ** 4 * 500)];
  const clients = proxies.map((proxy, i) => assembleSessionClient({ address: proxy.address }, parts[i]!));
  const probe = startProbe({ first: clients[0]!, second: clients[1]!, late: clients[2]! });
  const population = startPopulation(probe);
  const lapses = countLapses(clients);

  await runFaults(proxies, first);
  const endMs = performance.now() + SECONDS * 1000 - 30_000;
  while (performance.now() < endMs) {
    await randomFault(proxies);
    await sleep(LEASE_MS * Math.random());
  }
  const ended = await population.stop();
  await sleep(LEASE_MS);
  await probe.stop();
  lapses.stop();
  const hits = clients.map((client) => client.statistics().hits);
  for (const client of clients) client.close();
  await Promise.all(proxies.map((proxy) => proxy.stop()));

  const { valid, invalid, errors, staleValid, worstStaleMs } = probe.counts;
  t.diagnostic(`${valid} VALID (${hits.join(" + ")} from memory), ${invalid} INVALID, ${errors} errors`);
  t.diagnostic(`${ended} sessions ended; ${staleValid} stale responses, the worst ${worstStaleMs.toFixed(0)} ms late`);
  t.diagnostic(`the clients lost their lease ${lapses.counts.join(", ")} times`);
  assert.deepEqual(probe.violations.slice(0, 10), []);
  // The run must have tested something: many hits, many ended sessions, some stale responses, and a lapse of every lease.
  assert.ok(hits.every((count) => count > 500) && ended > 200 && staleValid > 0 && invalid > 1000);
  assert.ok(lapses.counts.every((count) => count >= 1));
});

/** Causes every fault once. Those of connections come while the store works, so that faults do not hide each other. */
async function runFaults(proxies: readonly ClientProxy[], first: string): Promise<void> {
  const { redis, control, servers } = authorities;
  const [blackholed, oneWay, slow] = proxies as [ClientProxy, ClientProxy, ClientProxy];
  await sleep(1500);
  blackholed.hold("toService", true);
  blackholed.hold("toClient", true);
  oneWay.hold("toService", true);
  slow.delay("toClient", 1500);
  await sleep(4200);
  for (const proxy of proxies) restore(proxy);
  for (let i = 0; i < 4; i++) {
    await sleep(300);
    await control.sendCommand(["CLIENT", "KILL", "TYPE", "PUBSUB"]);
  }
  redis.pause();
  await sleep(4000);
  redis.resume();
  await sleep(1200);
  await redis.kill();
  await sleep(700);
  await redis.restart();
  await sleep(2000);
  blackholed.cut(true);
  oneWay.hold("toClient", true);
  await sleep(4000);
  for (const proxy of proxies) restore(proxy);
  oneWay.retarget(first);
  await servers[1]!.close();
  await sleep(1500);
}

async function randomFault(proxies: readonly ClientProxy[]): Promise<void> {
  const { redis, control } = authorities;
  const proxy = proxies[Math.floor(Math.random() * proxies.length)]!;
  const pauseMs = 1000 + Math.random() * 4000;
  const faults = [
    () => proxy.hold("toService", true),
    () => proxy.hold("toClient", true),
    () => proxy.delay("toClient", pauseMs / 2),
    () => proxy.cut(false),
    () => proxy.cut(true),
    () => control.sendCommand(["CLIENT", "KILL", "TYPE", "PUBSUB"]),
    () => redis.pause(),
    () => redis.restart(),
  ];
  await faults[Math.floor(Math.random() * faults.length)]!();
  await sleep(pauseMs);
  redis.resume();
  for (const each of proxies) restore(each);
}

function restore(proxy: ClientProxy): void {
  proxy.hold("toService", false);
  proxy.hold("toClient", false);
  proxy.delay("toClient", 0);
  proxy.restore();
}

/** Creates and ends sessions all the time, each in its own way, whatever fault there is. */
function startPopulation(probe: Probe) {
  const endings = Object.values(ENDINGS);
  let running = true;
  let ended = 0;
  let logins = 0;
  // The second instance is closed in the end; then only calls to the first succeed.
  const anyClient = () => authorities.clients[Math.floor(Math.random() * 2)]!;

  async function keepReplacing(): Promise<void> {
    while (running) {
      const number = logins++;
      const session = await endings[number % endings.length]!(anyClient(), `user-${number}`).catch(() => undefined);
      if (session === undefined) {
        await sleep(100);
        continue;
      }
      const subject = probe.add(session);
      await sleep(200 + Math.random() * 2000);
      while (!(await tryToEnd(session))) await sleep(50);
      subject.endedMs ??= performance.now();
      ended++;
    }
  }

  const replacing = Array.from({ length: POPULATION }, keepReplacing);
  return {
    /** Resolves with the number of sessions that have ended. */
    async stop(): Promise<number> {
      running = false;
      await Promise.all(replacing);
      return ended;
    },
  };
}

/** Ends the session. Returns true if that was acknowledged; a failed call may have ended it without acknowledgement. */
async function tryToEnd(session: { end(by: AuthorityClient): Promise<unknown> }): Promise<boolean> {
  const by = authorities.clients[Math.floor(Math.random() * 2)]!;
  try {
    await session.end(by);
    return true;
  } catch (error) {
    return error instanceof CallError && error.code === NOT_FOUND;
  }
}

function countLapses(clients: readonly SessionClient[]) {
  const counts = clients.map(() => 0);
  const was = clients.map(() => false);
  const timer = setInterval(() => {
    clients.forEach((client, i) => {
      const safe = client.statistics().safeForMs > 0;
      if (was[i] && !safe) counts[i]!++;
      was[i] = safe;
    });
  }, 20);
  return { counts, stop: () => clearInterval(timer) };
}
