// The store stopped or killed in mid-call: every RPC ends by its deadline, and the service recovers with the store.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { status } from "@grpc/grpc-js";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import type { AuthorityClient, CallError } from "../helpers/grpc_client.ts";
import { countLostTime } from "../helpers/lost_time.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

const skip = redisServerMissing();
const RECOVERY_MS = 2000;

let authorities: Authorities;
let client: AuthorityClient;
let sessionId: string;

before(async () => {
  if (skip) return;
  authorities = await startAuthorities({ redisArgs: ["--appendonly", "yes", "--appendfsync", "always"] });
  client = authorities.clients[0]!;
  sessionId = (await client.createHashSession({ userId: "outage", fields: { n: "0" } })).session!.sessionId;
});
after(async () => {
  if (skip) return;
  await authorities.close();
});

/** One call of each kind: reads by GET and by script, and writes. */
const calls = (timeoutMs: number): [string, () => Promise<unknown>][] => [
  ["validate", () => client.validateSession({ sessionId }, { timeoutMs })],
  ["get", () => client.getSession({ sessionId }, { timeoutMs })],
  ["list", () => client.listUserSessions({ userId: "outage" }, { timeoutMs })],
  ["create", () => client.createSession({ userId: "outage-2" }, { timeoutMs })],
  ["update", () => client.updateSessionData({ sessionId, data: { x: 1 } }, { timeoutMs })],
  ["merge", () => client.updateSessionData({ sessionId, data: { y: 1 }, merge: true }, { timeoutMs })],
  ["set", () => client.setSessionFields({ sessionId, fields: { a: "b" } }, { timeoutMs })],
  ["increment", () => client.incrementSessionField({ sessionId, field: "n", delta: 1n }, { timeoutMs })],
  ["delete", () => client.deleteSession({ sessionId: "A".repeat(28) }, { timeoutMs })],
];

async function assertAllEndUnavailable(timeoutMs: number): Promise<void> {
  await Promise.all(
    calls(timeoutMs).map(async ([name, call]) => {
      const lostMs = countLostTime();
      const startedMs = performance.now();
      await assert.rejects(call(), (error: CallError) => {
        const tookMs = performance.now() - startedMs - lostMs();
        assert.ok(tookMs <= timeoutMs + 50, `${name} took ${tookMs} ms of ${timeoutMs}`);
        assert.equal(error.code, status.UNAVAILABLE, `${name}: ${error.message}`);
        assert.ok(error.retryInfo, `${name} carries no RetryInfo`);
        return true;
      });
    }),
  );
}

/** Polls until a call succeeds. The time for which this process was kept from running does not count. */
async function recovered(): Promise<void> {
  for (let tookMs = 0; ;) {
    const startedMs = performance.now();
    const lostMs = countLostTime();
    try {
      await client.getSession({ sessionId }, { timeoutMs: 200 });
      return;
    } catch (error) {
      if ((error as CallError).reason === "SESSION_NOT_FOUND") throw error;
      tookMs += performance.now() - startedMs - lostMs();
      if (tookMs > RECOVERY_MS) throw new Error(`not back after ${tookMs} ms: ${String(error)}`, { cause: error });
    } finally {
      lostMs();
    }
  }
}

const readyz = async () => (await fetch(`http://${authorities.httpAddresses[0]}/readyz`)).status;

test(
  "SIGSTOP: every call ends by its deadline as UNAVAILABLE, and all works again after SIGCONT",
  { skip },
  async () => {
    for (const timeoutMs of [200, 500]) {
      authorities.redis.pause();
      await assertAllEndUnavailable(timeoutMs);
      authorities.redis.resume();
      await recovered();
    }
  },
);

test("a long SIGSTOP: the connection is dropped, readiness fails, and both come back", { skip }, async () => {
  authorities.redis.pause();
  const deadlineMs = performance.now() + 5000;
  while ((await readyz()) === 200) assert.ok(performance.now() < deadlineMs, "still ready with a store that hangs");
  await assertAllEndUnavailable(200);
  authorities.redis.resume();
  await recovered();
  while ((await readyz()) !== 200) assert.ok(performance.now() < deadlineMs + 5000, "not ready with a healthy store");
});

test("kill -9 and restart: UNAVAILABLE at once, sessions are still there afterwards", { skip }, async () => {
  const inFlight = assertAllEndUnavailable(1000);
  authorities.redis.pause();
  await authorities.redis.kill();
  await inFlight.catch(() => undefined);
  await assertAllEndUnavailable(500);
  await authorities.redis.restart();
  await recovered();
});

test("a flood of calls to a store that hangs ends, and the service continues", { skip }, async () => {
  authorities.redis.pause();
  const outcomes = await Promise.allSettled(
    Array.from({ length: 5000 }, () => client.validateSession({ sessionId }, { timeoutMs: 300 })),
  );
  authorities.redis.resume();
  assert.ok(outcomes.every((outcome) => outcome.status === "rejected"));
  await recovered();
  assert.equal((await client.validateSession({ sessionId })).verdict, 1);
});

test("without a store, a logout fails with UNAVAILABLE and never succeeds", { skip }, async () => {
  await authorities.redis.kill();
  await assert.rejects(client.deleteSession({ sessionId }, { timeoutMs: 500 }), { code: status.UNAVAILABLE });
  await assert.rejects(client.deleteUserSessions({ userId: "outage" }, { timeoutMs: 500 }), {
    code: status.UNAVAILABLE,
  });
  await authorities.redis.restart();
  await recovered();
  assert.equal((await client.deleteSession({ sessionId })).deleted, true);
});
