// Retried rotations and regenerations, and limits per label, race against their worst rivals over two instances on one store.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { AuditEventType } from "../../gen/session/v1/audit_pb.ts";
import { LimitPer, OnExceed, Verdict } from "../../gen/session/v1/session_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import { CallError, type AuthorityClient } from "../helpers/grpc_client.ts";
import { race, rivals, valueOf } from "../helpers/races.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { rounds } from "../helpers/rounds.ts";

const ROUNDS = rounds({ quick: 150, all: 2_000, variable: "RACE_ROUNDS" });
const skip = redisServerMissing();

let authorities: Authorities;
let a: AuthorityClient;
let b: AuthorityClient;
let dataDir: string;

before(async () => {
  if (skip) return;
  dataDir = await mkdtemp(join(tmpdir(), "sa-retries-"));
  // The instances share the key ring of their data directory.
  authorities = await startAuthorities({ instances: 2, env: { SA_DATA_DIR: dataDir } });
  [a, b] = authorities.clients as [AuthorityClient, AuthorityClient];
});
after(async () => {
  if (skip) return;
  await authorities.assertStoreSound();
  await authorities.close();
  await rm(dataDir, { recursive: true });
});

const login = async (userId: string) => (await a.createSecureSession({ userId })).token;
const verdictOf = async (token: string) => (await b.validateToken({ token, touch: false })).verdict;

/** Returns true if the call failed for one of these reasons, false if it succeeded. */
function failedBy(outcome: PromiseSettledResult<unknown>, ...reasons: string[]): boolean {
  if (outcome.status === "fulfilled") return false;
  if (outcome.reason instanceof CallError && reasons.includes(outcome.reason.reason!)) return true;
  throw outcome.reason;
}

async function countOf(userId: string, type: AuditEventType): Promise<number> {
  return (await a.listAuditEvents({ userId, types: [type] })).events.length;
}

test("rotate-retry against rotate-retry: all get the token of one rotation", { skip }, async () => {
  await race(ROUNDS, async (index) => {
    const userId = `rotate-retry-${index}`;
    const request = { token: await login(userId), requestId: "r" };
    const outcomes = await rivals(
      () => a.rotateToken(request),
      () => b.rotateToken(request),
      () => a.rotateToken(request),
      () => b.rotateToken(request),
    );
    const tokens = new Set(outcomes.map((outcome) => valueOf(outcome).token));
    assert.equal(tokens.size, 1);
    assert.equal(await verdictOf([...tokens][0]!), Verdict.VALID);
    assert.equal(await countOf(userId, AuditEventType.ROTATED), 1);
  });
});

test(
  "rotate-retry against rotate without a request id: one rotation, and nobody else has a token",
  { skip },
  async () => {
    await race(ROUNDS, async (index) => {
      const userId = `rotate-both-${index}`;
      const token = await login(userId);
      const outcomes = await rivals(
        () => a.rotateToken({ token, requestId: "r" }),
        () => b.rotateToken({ token }),
        () => b.rotateToken({ token, requestId: "r" }),
        () => a.rotateToken({ token }),
      );
      const won = outcomes.filter((outcome) => !failedBy(outcome, "ROTATED_CONCURRENTLY"));
      assert.equal(new Set(won.map((outcome) => valueOf(outcome).token)).size, 1);
      assert.equal(await countOf(userId, AuditEventType.ROTATED), 1);
    });
  },
);

test("rotate-retry against revoke: a session never comes back", { skip }, async () => {
  await race(ROUNDS, async (index) => {
    const token = await login(`rotate-revoke-${index}`);
    const request = { token, requestId: "r" };
    const [revoked, ...rotations] = await rivals(
      () => a.revokeToken({ token }),
      () => b.rotateToken(request),
      () => a.rotateToken(request),
    );
    assert.equal(valueOf(revoked).deleted, true);
    for (const rotation of rotations) {
      if (!failedBy(rotation, "SESSION_NOT_FOUND")) {
        assert.equal(await verdictOf(valueOf(rotation).token), Verdict.INVALID);
      }
    }
    await assert.rejects(b.rotateToken(request), { reason: "SESSION_NOT_FOUND" });
  });
});

test("regenerate-retry against regenerate-retry: all get the same id and token", { skip }, async () => {
  await race(ROUNDS, async (index) => {
    const userId = `regenerate-retry-${index}`;
    const request = { token: await login(userId), requestId: "r" };
    const outcomes = await rivals(
      () => a.regenerateSession(request),
      () => b.regenerateSession(request),
      () => a.regenerateSession(request),
    );
    const answers = outcomes.map((outcome) => valueOf(outcome));
    assert.equal(new Set(answers.map(({ session, token }) => `${session!.sessionId} ${token}`)).size, 1);
    assert.equal(await verdictOf(answers[0]!.token), Verdict.VALID);
    assert.equal(await countOf(userId, AuditEventType.REGENERATED), 1);
    assert.equal((await a.listUserSessions({ userId })).sessions.length, 1);
  });
});

test("50 creates against a limit per label: never more, and other labels keep theirs", { skip }, async () => {
  await race(
    Math.ceil(ROUNDS / 10),
    async (index) => {
      const userId = `label-limit-${index}`;
      const onExceed = index % 2 === 0 ? OnExceed.REJECT : OnExceed.EVICT_OLDEST;
      const limit = { maxSessions: 3, onExceed, per: LimitPer.LABEL, labelKey: "app" };
      const creates = Array.from({ length: 50 }, (_, i) => () => {
        const labels = { app: i % 5 === 0 ? "mail" : "shop" };
        return (i % 2 === 0 ? a : b).createSession({ userId, labels, limit });
      });
      const outcomes = await rivals(...creates);
      const made = outcomes.filter((outcome) => !failedBy(outcome, "SESSION_LIMIT_REACHED")).length;
      assert.equal(made, onExceed === OnExceed.REJECT ? 6 : 50);
      const { sessions } = await a.listUserSessions({ userId });
      const apps = sessions.map(({ labels }) => labels["app"]).toSorted();
      assert.deepEqual(apps, ["mail", "mail", "mail", "shop", "shop", "shop"]);
    },
    4,
  );
});
