// A failover loses no acknowledged end of a session, as long as one instance survives it.

import assert from "node:assert/strict";
import { describe, test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { AuditEventType } from "../../gen/session/v1/audit_pb.ts";
import { Verdict } from "../../gen/session/v1/session_pb.ts";
import { startClientProxy } from "../helpers/client_proxy.ts";
import { SLOT_RANGES } from "../helpers/redis_cluster.ts";
import { redisServerMissing, startRedisServer, type RedisServer } from "../helpers/redis_server.ts";
import { isInSync, isMaster, isReplica } from "../helpers/replication.ts";
import { rounds } from "../helpers/rounds.ts";
import { startInstance, type StoreInstance } from "../helpers/store_instance.ts";
import { until } from "../helpers/until.ts";
import { createWatchClient } from "../helpers/watch_client.ts";

const skip = redisServerMissing();
const HOST = "127.0.0.1";
const LANES = 8;
/** By turns a planned failover and a kill of the primary. */
const ROUNDS = rounds({ quick: 2, all: 6, variable: "FAILOVER_ROUNDS" });
/** Sentinels take their time to repair what is not urgent. */
const REPAIR_MS = 120_000;

async function startStore(t: TestContext, ...args: string[]): Promise<RedisServer> {
  const store = await startRedisServer({ args });
  t.after(() => store.stop());
  return store;
}

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
  // A watch opens once the instance has read all changes. One that no instance has read yet dies with the store.
  const watcher = createWatchClient(instance.grpc);
  await watcher.watch().opened();
  watcher.close();
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

/** Keeps logging in and out. Returns the sessions whose logout was acknowledged. */
function startLoad({ client }: StoreInstance) {
  const loggedOut: string[] = [];
  let stopped = false;
  const lane = async (n: number) => {
    for (let i = 0; !stopped; i++) {
      try {
        const { session } = await client.createSession({ userId: `user ${n} ${i}` });
        const { deleted } = await client.deleteSession({ sessionId: session!.sessionId });
        if (deleted) loggedOut.push(session!.sessionId);
      } catch {
        // Not acknowledged.
      }
      await sleep(20);
    }
  };
  const lanes = Array.from({ length: LANES }, (_, n) => lane(n));
  return {
    loggedOut,
    async more(what: string, count = 300) {
      const before = loggedOut.length;
      await until(what, () => loggedOut.length > before + count);
    },
    async stop() {
      stopped = true;
      await Promise.all(lanes);
    },
  };
}

async function assertNoneIsAlive(instance: StoreInstance, sessionIds: readonly string[]): Promise<void> {
  const alive: string[] = [];
  for (const sessionId of sessionIds) if (await isValid(instance, sessionId)) alive.push(sessionId);
  assert.deepEqual(alive, [], `of ${sessionIds.length} logouts`);
}

describe("Sentinel", { skip }, () => {
  test(`${ROUNDS} planned failovers and kills under load undo no acknowledged logout (cases/failover.md 1)`, async (t) => {
    const first = await startStore(t);
    const asReplica = ["--replicaof", HOST, String(first.port), "--repl-diskless-sync-delay", "0"];
    const stores = [first, ...(await Promise.all([1, 2].map(() => startStore(t, ...asReplica))))];
    for (const replica of stores.slice(1)) await until("the replica is in sync", () => isInSync(replica));
    const conf = [
      `sentinel monitor main ${HOST} ${first.port} 2`,
      "sentinel down-after-milliseconds main 1000",
      "sentinel failover-timeout main 3000",
    ];
    const sentinels = await Promise.all([1, 2, 3].map(() => startRedisServer({ sentinel: `${conf.join("\n")}\n` })));
    t.after(() => Promise.all(sentinels.map((sentinel) => sentinel.stop())));
    const areComplete = async () => {
      const infos = await Promise.all(sentinels.map((sentinel) => sentinel.command("INFO", "sentinel")));
      return infos.every((info) => /status=ok,.*slaves=2,sentinels=3/.test(info));
    };
    await until("the sentinels know each other", areComplete);
    const hosts = sentinels.map(({ port }) => `${HOST}:${port}`).join(",");
    const instance = await startInstance(t, `redis+sentinel://${hosts}/main`, first.dataDir);
    const load = startLoad(instance);
    let master = first;
    for (let round = 0; round < ROUNDS; round++) {
      await load.more("there is load", 100);
      const isPlanned = round % 2 === 0;
      if (isPlanned) {
        await until("the failover begins", async () =>
          (await sentinels[0]!.command("SENTINEL", "FAILOVER", "main")).startsWith("+OK"),
        );
      } else {
        await master.kill();
      }
      const old = master;
      await until("another master is named", async () => {
        const named = await sentinels[0]!.command("SENTINEL", "get-master-addr-by-name", "main");
        const next = stores.find((store) => store !== old && named.includes(`\r\n${store.port}`));
        if (next !== undefined) master = next;
        return next !== undefined;
      });
      await load.more("logouts work on the new master");
      if (!isPlanned) await old.restart();
      await until("the old master is demoted", () => isReplica(old));
      await until(
        "all replicas are in sync",
        async () => {
          const synced = await Promise.all(stores.filter((store) => store !== master).map(isInSync));
          return synced.every(Boolean) && areComplete();
        },
        REPAIR_MS,
      );
    }
    await load.stop();
    await assertNoneIsAlive(instance, load.loggedOut);
  });
});

describe("Cluster", { skip }, () => {
  test(`${ROUNDS} planned failovers and kills under load undo no acknowledged logout`, async (t) => {
    const args = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0"];
    const nodes = await Promise.all(Array.from({ length: 6 }, () => startStore(t, ...args)));
    const idOf = async (node: RedisServer) => (await node.command("CLUSTER", "MYID")).split("\r\n")[1]!;
    for (const [index, [from, to]] of SLOT_RANGES.entries()) {
      await nodes[index]!.command("CLUSTER", "ADDSLOTSRANGE", String(from), String(to));
    }
    for (const [index, node] of nodes.entries()) await node.command("CLUSTER", "SET-CONFIG-EPOCH", String(index + 1));
    for (const node of nodes.slice(1)) await nodes[0]!.command("CLUSTER", "MEET", HOST, String(node.port));
    const isWhole = async () => {
      const infos = await Promise.all(nodes.map((node) => node.command("CLUSTER", "INFO")));
      return infos.every((info) => info.includes("cluster_state:ok") && info.includes("cluster_known_nodes:6"));
    };
    await until("the cluster is whole", isWhole);
    for (const index of [0, 1, 2]) {
      const primaryId = await idOf(nodes[index]!);
      await until("the replica knows its primary", async () =>
        (await nodes[index + 3]!.command("CLUSTER", "REPLICATE", primaryId)).startsWith("+OK"),
      );
    }
    const areInSync = async () => {
      const replicas = (await Promise.all(nodes.map(async (node) => ((await isReplica(node)) ? [node] : [])))).flat();
      return replicas.length === 3 && (await Promise.all(replicas.map(isInSync))).every(Boolean);
    };
    await until("the replicas are in sync", areInSync);
    const urls = nodes.map(({ port }) => `${HOST}:${port}`).join(",");
    const instance = await startInstance(t, `redis+cluster://${urls}`, nodes[0]!.dataDir);
    const load = startLoad(instance);
    for (let round = 0; round < ROUNDS; round++) {
      await load.more("there is load", 100);
      // The nodes of a pair take turns as the primary of their slots.
      const pair = [nodes[round % 3]!, nodes[(round % 3) + 3]!];
      const [primary, replica] = (await isMaster(pair[0]!)) ? pair : pair.toReversed();
      const isPlanned = round % 2 === 0;
      if (isPlanned) assert.match(await replica!.command("CLUSTER", "FAILOVER"), /^\+OK/);
      else await primary!.kill();
      await until("the replica is promoted", () => isMaster(replica!));
      await load.more("logouts work everywhere");
      if (!isPlanned) await primary!.restart();
      await until("the cluster is whole again", async () => (await isWhole()) && (await areInSync()));
    }
    await until("ready", async () => (await instance.readiness()).length === 0);
    await load.stop();
    await assertNoneIsAlive(instance, load.loggedOut);
  });
});
