// Only a live primary is believed: a node that was demoted, is cut off, or refuses writes is noticed without traffic, and no
// validation trusts it for longer than SA_FENCE_TIMEOUT.

import assert from "node:assert/strict";
import { describe, test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { Verdict } from "../../gen/session/v1/session_pb.ts";
import { startClientProxy } from "../helpers/client_proxy.ts";
import type { CallError } from "../helpers/grpc_client.ts";
import { redisServerMissing, startRedisServer, type RedisServer } from "../helpers/redis_server.ts";
import { isInSync } from "../helpers/replication.ts";
import { startInstance, type StoreInstance } from "../helpers/store_instance.ts";
import { until } from "../helpers/until.ts";

const skip = redisServerMissing();
const HOST = "127.0.0.1";

async function startStore(t: TestContext, ...args: string[]): Promise<RedisServer> {
  const store = await startRedisServer({ args });
  t.after(() => store.stop());
  return store;
}

/** Starts a replica of `primary`; resolves when it is in sync. */
async function startReplica(t: TestContext, primary: RedisServer, ...args: string[]): Promise<RedisServer> {
  const replica = await startStore(t, "--replicaof", HOST, String(primary.port), ...args);
  await until("the replica is in sync", () => isInSync(replica));
  return replica;
}

const createWorks = ({ client }: StoreInstance) =>
  client.createSession({ userId: "again" }).then(
    () => true,
    (error: unknown) => {
      assert.equal((error as CallError).code, status.UNAVAILABLE);
      return false;
    },
  );

/** Keeps validating. Returns the verdicts, undefined for UNAVAILABLE, by the start of each call. */
function validating({ client }: StoreInstance, sessionId: string) {
  const results: { readonly startedMs: number; readonly verdict: Verdict | undefined }[] = [];
  let stopped = false;
  const loop = async () => {
    while (!stopped) {
      const startedMs = performance.now();
      const verdict = await client.validateSession({ sessionId, touch: false }).then(
        (response) => response.verdict,
        (error: unknown) => {
          assert.equal((error as CallError).code, status.UNAVAILABLE);
          return undefined;
        },
      );
      results.push({ startedMs, verdict });
      await sleep(10);
    }
  };
  const running = loop();
  return {
    results,
    async stop() {
      stopped = true;
      await running;
    },
  };
}

describe("behind a stable address", { skip }, () => {
  test("a demoted node is left for its successor, though its connections stay open (cases/failover.md 3)", async (t) => {
    const old = await startStore(t);
    const successor = await startReplica(t, old);
    const front = await startClientProxy(`${HOST}:${old.port}`);
    t.after(() => front.stop());
    const instance = await startInstance(t, `redis://${front.address}`, old.dataDir);
    const { session } = await instance.client.createSession({ userId: "ada" });
    await until("the session is replicated", async () => (await successor.command("DBSIZE")) !== ":0");

    front.retarget(`${HOST}:${successor.port}`);
    await successor.command("REPLICAOF", "NO", "ONE");
    await old.command("REPLICAOF", HOST, String(successor.port));
    await until("creates work again", () => createWorks(instance));
    const { verdict } = await instance.client.validateSession({ sessionId: session!.sessionId });
    assert.equal(verdict, Verdict.VALID);
    assert.deepEqual(await instance.readiness(), []);
    const left = instance.lines.filter(({ why }) => why === "it is a replica, not a primary");
    assert.equal(left.length, 1, "it was left once, with the cause");
  });

  test("a demoted node that is cut off from its primary is not believed (cases/failover.md 4)", async (t) => {
    const old = await startStore(t);
    const successor = await startReplica(t, old);
    const front = await startClientProxy(`${HOST}:${old.port}`);
    t.after(() => front.stop());
    const instance = await startInstance(t, `redis://${front.address}`, old.dataDir);
    const other = await startInstance(t, `redis://${HOST}:${old.port}`, old.dataDir);
    const { session } = await other.client.createSession({ userId: "ada" });
    const { sessionId } = session!;
    await until("the session is replicated", async () => (await successor.command("DBSIZE")) !== ":0");

    // The front goes on sending everything to the old node, which no replication reaches.
    await successor.command("REPLICAOF", "NO", "ONE");
    await old.command("REPLICAOF", HOST, "1");
    const onSuccessor = await startInstance(t, `redis://${HOST}:${successor.port}`, old.dataDir);
    await until("not ready", async () =>
      (await instance.readiness()).includes("the store is a replica, not a primary"),
    );
    assert.equal((await onSuccessor.client.deleteSession({ sessionId })).deleted, true);
    await assert.rejects(instance.client.validateSession({ sessionId }), { code: status.UNAVAILABLE });
    const metrics = await (await fetch(`http://${instance.http}/metrics`)).text();
    assert.match(metrics, /^session_authority_store_fault\{cause="replica"\} 1$/m);

    front.retarget(`${HOST}:${successor.port}`);
    await until("ready again", async () => (await instance.readiness()).length === 0);
    assert.equal((await instance.client.validateSession({ sessionId })).verdict, Verdict.INVALID);
  });

  test("an old primary that its replicas have left is believed for SA_FENCE_TIMEOUT at most", async (t) => {
    const lag = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "1"];
    const old = await startStore(t, ...lag, "--repl-ping-replica-period", "1");
    const successor = await startReplica(t, old);
    await until("the old primary knows its replica", async () =>
      (await old.command("INFO", "replication")).includes("min_slaves_good_slaves:1"),
    );
    const front = await startClientProxy(`${HOST}:${old.port}`);
    t.after(() => front.stop());
    const instance = await startInstance(t, `redis://${front.address}`, old.dataDir);
    const { session } = await instance.client.createSession({ userId: "ada" });
    const { sessionId } = session!;

    await successor.command("REPLICAOF", "NO", "ONE");
    const other = await startInstance(t, `redis://${HOST}:${successor.port}`, old.dataDir);
    const validations = validating(instance, sessionId);
    assert.equal((await other.client.deleteSession({ sessionId })).deleted, true);
    const deletedMs = performance.now();
    const cause = "the store refuses writes, because too few replicas follow it";
    await until("not ready", async () => (await instance.readiness()).includes(cause));
    await until("not believed", () => validations.results.at(-1)?.verdict === undefined);
    await sleep(500);
    await validations.stop();
    const lastValid = validations.results.findLast(({ verdict }) => verdict === Verdict.VALID);
    const afterMs = (lastValid?.startedMs ?? deletedMs) - deletedMs;
    // 1 s of lag, 1 s until the store looks at it, 3 s of the fence, and the store's own delays on a busy machine.
    assert.ok(afterMs < 8_000, `VALID ${afterMs} ms after the session was deleted`);
    assert.equal(validations.results.at(-1)!.verdict, undefined);
    await assert.rejects(instance.client.createSession({ userId: "ada" }), { code: status.UNAVAILABLE });

    front.retarget(`${HOST}:${successor.port}`);
    await old.command("REPLICAOF", HOST, String(successor.port));
    await until("creates work again", () => createWorks(instance));
    assert.equal((await instance.client.validateSession({ sessionId })).verdict, Verdict.INVALID);
  });
});

describe("a store that refuses commands (cases/failover.md 5)", { skip }, () => {
  test("rights taken away while connected: not ready, with the cause, until they are back", async (t) => {
    const store = await startStore(t);
    const instance = await startInstance(t, `redis://${HOST}:${store.port}`, store.dataDir);
    await store.command("ACL", "SETUSER", "default", "-xadd");
    await assert.rejects(instance.client.createSession({ userId: "ada" }), { code: status.UNAVAILABLE });
    const cause = "the store refuses a command that the user has no right to";
    assert.deepEqual(await instance.readiness(), [cause]);
    await sleep(3_000);
    assert.deepEqual(await instance.readiness(), [cause], "other commands do not show that the right is back");
    await store.command("ACL", "SETUSER", "default", "+xadd");
    await until("ready again", async () => (await instance.readiness()).length === 0);
    await instance.client.createSession({ userId: "ada" });
    assert.equal(instance.lines.filter(({ fault }) => fault === "NOPERM").length, 2, "once lost, once back");
  });

  test("a store that cannot save: not ready until it can", async (t) => {
    const store = await startStore(t, "--save", "3600 1", "--enable-protected-configs", "yes");
    const instance = await startInstance(t, `redis://${HOST}:${store.port}`, store.dataDir);
    await instance.client.createSession({ userId: "ada" });
    await store.command("CONFIG", "SET", "dir", "/proc");
    await store.command("BGSAVE");
    const cause = "the store refuses writes, because it cannot save its data";
    await until("not ready", async () => (await instance.readiness()).includes(cause));
    await assert.rejects(instance.client.createSession({ userId: "ada" }), { code: status.UNAVAILABLE });
    await store.command("CONFIG", "SET", "dir", store.dataDir);
    await store.command("BGSAVE");
    await until("ready again", async () => (await instance.readiness()).length === 0);
    await instance.client.createSession({ userId: "ada" });
    assert.equal(instance.lines.filter(({ fault }) => fault === "MISCONF").length, 2);
  });
});
