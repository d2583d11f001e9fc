// A failover loses no acknowledged end of a session, as long as one instance survives it.

import assert from "node:assert/strict";
import { describe, test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { AuditEventType } from "../../gen/session/v1/audit_pb.ts";
import { Verdict } from "../../gen/session/v1/session_pb.ts";
import { startClientProxy } from "../helpers/client_proxy.ts";
import { redisServerMissing, startRedisServer, type RedisServer } from "../helpers/redis_server.ts";
import { startInstance, type StoreInstance } from "../helpers/store_instance.ts";
import { until } from "../helpers/until.ts";

const skip = redisServerMissing();
const HOST = "127.0.0.1";
const LANES = 8;

async function startStore(t: TestContext, ...args: string[]): Promise<RedisServer> {
  const store = await startRedisServer({ args });
  t.after(() => store.stop());
  return store;
}

const isInSync = async (replica: RedisServer) =>
  (await replica.command("INFO", "replication")).includes("master_link_status:up");

const isValid = async ({ client }: StoreInstance, sessionId: string) =>
  (await client.validateSession({ sessionId, touch: false })).verdict === Verdict.VALID;

test("ends that the new primary has lost are applied again before the instance is ready", { skip }, async (t) => {
  const old = await startStore(t);
  const successor = await startStore(t, "--replicaof", HOST, String(old.port));
  await until("the replica is in sync", () => isInSync(successor));
  const front = await startClientProxy(`${HOST}:${old.port}`);
  t.after(() => front.stop());
  const instance = await startInstance(t, `redis://${front.address}`, old.dataDir);
  const { client } = instance;
  const create = async (userId: string, more: object = {}) =>
    (await client.createSession({ userId, ...more })).session!.sessionId;
  const device = { deviceId: "phone" };
  const [kept, deleted, revoked, onDevice, byUser, byAdmin] = await Promise.all([
    ...["kept", "deleted", "revoked"].map((userId) => create(userId)),
    create("device", { device }),
    create("user"),
    create("admin"),
  ]);
  const { session: withToken, token } = await client.createSecureSession({ userId: "token" });
  const regenerated = await create("regenerated");
  await until(
    "the sessions are replicated",
    async () => (await successor.command("DBSIZE")) === (await old.command("DBSIZE")),
  );

  // Nothing of what follows reaches the successor.
  await successor.command("REPLICAOF", "NO", "ONE");
  await client.deleteSession({ sessionId: deleted! });
  await client.invalidateSession({ sessionId: revoked!, actor: "on call", note: "stolen" });
  await client.revokeDevice({ userId: "device", deviceId: "phone" });
  await client.deleteUserSessions({ userId: "user" });
  await client.endSessions({ filter: { userIds: ["admin"] } });
  await client.revokeToken({ token });
  await client.regenerateSession({ sessionId: regenerated });
  await old.kill();
  front.retarget(`${HOST}:${successor.port}`);
  await until("it was recovered", () => instance.lines.some(({ sessions }) => sessions === 7));
  await until("ready again", async () => (await instance.readiness()).length === 0);

  const ended = [deleted, revoked, onDevice, byUser, byAdmin, regenerated] as string[];
  for (const sessionId of ended) assert.equal(await isValid(instance, sessionId), false);
  assert.equal((await client.validateToken({ token })).verdict, Verdict.INVALID);
  assert.equal((await client.explainSession({ sessionId: withToken!.sessionId })).principal, "anonymous");
  assert.equal(await isValid(instance, kept!), true);
  const { events } = await client.listAuditEvents({ userId: "revoked" });
  assert.deepEqual(
    events.map(({ type, actor, note }) => [type, actor, note]),
    [
      [AuditEventType.REVOKED, "on call", "applied again: a failover had lost it"],
      [AuditEventType.CREATED, "", ""],
    ],
  );

  // The same process again: there is nothing to apply.
  const linesBefore = instance.lines.length;
  front.cut(false);
  await until("connected again", () =>
    instance.lines.slice(linesBefore).some(({ msg }) => msg === "connected to the store"),
  );
  await until("ready again", async () => (await instance.readiness()).length === 0);
  assert.equal(instance.lines.filter(({ sessions }) => sessions !== undefined).length, 1);
});

describe("Sentinel", { skip }, () => {
  test("a planned failover under load undoes no acknowledged logout (cases/failover.md 1)", async (t) => {
    const master = await startStore(t);
    const replicas = await Promise.all(
      [1, 2].map(() => startStore(t, "--replicaof", HOST, String(master.port), "--repl-diskless-sync-delay", "0")),
    );
    for (const replica of replicas) await until("the replica is in sync", () => isInSync(replica));
    const conf = [
      `sentinel monitor main ${HOST} ${master.port} 2`,
      "sentinel down-after-milliseconds main 1000",
      "sentinel failover-timeout main 10000",
    ];
    const sentinels = await Promise.all([1, 2, 3].map(() => startRedisServer({ sentinel: `${conf.join("\n")}\n` })));
    t.after(() => Promise.all(sentinels.map((sentinel) => sentinel.stop())));
    for (const sentinel of sentinels) {
      await until("the sentinels know each other", async () => {
        const info = await sentinel.command("INFO", "sentinel");
        return /slaves=2,sentinels=3/.test(info);
      });
    }
    const hosts = sentinels.map(({ port }) => `${HOST}:${port}`).join(",");
    const instance = await startInstance(t, `redis+sentinel://${hosts}/main`, master.dataDir);

    const loggedOut: string[] = [];
    let stopped = false;
    const lane = async (n: number) => {
      for (let i = 0; !stopped; i++) {
        try {
          const { session } = await instance.client.createSession({ userId: `user ${n} ${i}` });
          const { deleted } = await instance.client.deleteSession({ sessionId: session!.sessionId });
          if (deleted) loggedOut.push(session!.sessionId);
        } catch {
          // Not acknowledged.
        }
        await sleep(20);
      }
    };
    const lanes = Array.from({ length: LANES }, (_, n) => lane(n));
    await until("there is load", () => loggedOut.length > 100);
    await until(
      "the failover begins",
      async () => !(await sentinels[0]!.command("SENTINEL", "FAILOVER", "main")).startsWith("-"),
    );
    await until("the service has followed", () =>
      instance.lines.some(({ why }) => why?.startsWith("the sentinels name another master") ?? false),
    );
    const followed = loggedOut.length;
    await until("logouts work on the new master", () => loggedOut.length > followed + 300);
    stopped = true;
    await Promise.all(lanes);
    await until("the old master is demoted", async () =>
      (await master.command("INFO", "replication")).includes("role:slave"),
    );
    const alive: string[] = [];
    for (const sessionId of loggedOut) if (await isValid(instance, sessionId)) alive.push(sessionId);
    assert.deepEqual(alive, [], `of ${loggedOut.length} logouts`);
  });
});
