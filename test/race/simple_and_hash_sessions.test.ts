// Mutations of simple and hash sessions race against the calls that could undo them, over two instances on one store.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { InvalidationReason, Verdict } from "../../gen/session/v1/session_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import { CallError, type AuthorityClient } from "../helpers/grpc_client.ts";
import { race, rivals, valueOf } from "../helpers/races.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { rounds } from "../helpers/rounds.ts";

const ROUNDS = rounds({ quick: 300, all: 3_000, variable: "RACE_ROUNDS" });
const skip = redisServerMissing();

let authorities: Authorities;
let a: AuthorityClient;
let b: AuthorityClient;

before(async () => {
  if (skip) return;
  // Every access slides the idle timeout, so that each GetSession writes.
  authorities = await startAuthorities({ instances: 2, touchIntervalMs: 0 });
  [a, b] = authorities.clients as [AuthorityClient, AuthorityClient];
});
after(async () => {
  if (skip) return;
  await authorities.assertStoreSound();
  await authorities.close();
});

const users = (name: string, index: number) => ({ userId: `${name}-${index}` });

function isCode(outcome: PromiseSettledResult<unknown>, reason: string): boolean {
  if (outcome.status === "fulfilled") return false;
  if (outcome.reason instanceof CallError && outcome.reason.reason === reason) return true;
  throw outcome.reason;
}

async function assertDead(client: AuthorityClient, sessionId: string): Promise<void> {
  const { verdict } = await client.validateSession({ sessionId });
  assert.equal(verdict, Verdict.INVALID, "a session is alive after its end");
}

test("get against delete: a session never comes back", { skip }, async () => {
  await race(ROUNDS, async (index) => {
    const { session } = await a.createSession(users("get-delete", index));
    const { sessionId } = session!;
    const [deleted, ...reads] = await rivals(
      () => a.deleteSession({ sessionId }),
      () => b.getSession({ sessionId }),
      () => a.getSession({ sessionId }),
    );
    assert.equal(valueOf(deleted).deleted, true);
    for (const read of reads) if (read.status === "rejected") isCode(read, "SESSION_NOT_FOUND");
    await assertDead(b, sessionId);
    await assert.rejects(a.getSession({ sessionId }), { reason: "SESSION_NOT_FOUND" });
  });
});

test("delete against delete: exactly one reports that it ended the session", { skip }, async () => {
  await race(ROUNDS, async (index) => {
    const { session } = await a.createSession(users("delete-delete", index));
    const { sessionId } = session!;
    const outcomes = await rivals(
      () => a.deleteSession({ sessionId }),
      () => b.deleteSession({ sessionId }),
    );
    assert.deepEqual(outcomes.map((outcome) => valueOf(outcome).deleted).toSorted(), [false, true]);
  });
});

test("end against end against another user's end: what is recorded is the one that ended it", { skip }, async () => {
  await race(ROUNDS, async (index) => {
    const user = users("end-end", index);
    const { session } = await a.createSession(user);
    const { sessionId } = session!;
    const [deleted, revoked, foreign, all] = await rivals(
      () => a.deleteSession({ sessionId, ...user, actor: "deleted" }),
      () => b.invalidateSession({ sessionId, actor: "revoked" }),
      () => a.deleteSession({ sessionId, userId: "another", actor: "another" }),
      () => b.deleteUserSessions({ ...user, actor: "user_revoked" }),
    );
    assert.equal(valueOf(foreign).deleted, false);
    const won = [valueOf(deleted).deleted, valueOf(revoked).deleted, valueOf(all).deletedCount === 1];
    assert.equal(won.filter(Boolean).length, 1, "exactly one ends it");
    const { actor, reason } = await a.explainSession({ sessionId });
    assert.equal(actor, ["deleted", "revoked", "user_revoked"][won.indexOf(true)]);
    assert.equal(InvalidationReason[actor.toUpperCase() as keyof typeof InvalidationReason], reason);
    const { events } = await b.listAuditEvents(user);
    const ends = events.filter((event) => event.sessionId === sessionId && event.actor !== "");
    assert.deepEqual(
      ends.map((event) => event.actor),
      actor === "user_revoked" ? [] : [actor],
    );
  });
});

test("update against update with expected_version: no update is lost", { skip }, async () => {
  await race(ROUNDS, async (index) => {
    const { session } = await a.createSession({ ...users("cas", index), data: { by: "nobody" } });
    const { sessionId, version } = session!;
    const [first, second] = await rivals(
      () => a.updateSessionData({ sessionId, data: { by: "a" }, expectedVersion: version }),
      () => b.updateSessionData({ sessionId, data: { by: "b" }, expectedVersion: version }),
    );
    const lost = [first, second].filter((outcome) => isCode(outcome, "VERSION_MISMATCH"));
    assert.equal(lost.length, 1, "exactly one update wins");
    const winner = first.status === "fulfilled" ? "a" : "b";
    const { session: now } = await b.getSession({ sessionId });
    assert.deepEqual(now!.data, { by: winner });
    assert.equal(now!.version, version + 1n);
  });
});

test("update against update without expected_version: the last whole write wins", { skip }, async () => {
  await race(ROUNDS, async (index) => {
    const { session } = await a.createSession(users("last-write", index));
    const { sessionId } = session!;
    const written = await rivals(
      () => a.updateSessionData({ sessionId, data: { one: "a", two: "a" } }),
      () => b.updateSessionData({ sessionId, data: { one: "b", two: "b" } }),
    );
    const last = written.map(valueOf).find(({ session: updated }) => updated!.version === 3n);
    const { session: now } = await a.getSession({ sessionId });
    assert.deepEqual(now!.data, last!.session!.data);
    assert.equal(now!.version, 3n);
  });
});

test("merge against merge: both take effect", { skip }, async () => {
  await race(ROUNDS, async (index) => {
    const { session } = await a.createSession({ ...users("merge", index), data: { kept: true } });
    const { sessionId } = session!;
    const merges = await rivals(
      () => a.updateSessionData({ sessionId, data: { one: 1 }, merge: true }),
      () => b.updateSessionData({ sessionId, data: { two: 2 }, merge: true }),
      () => b.updateSessionData({ sessionId, data: { three: 3 }, merge: true }),
    );
    merges.forEach(valueOf);
    const { session: now } = await a.getSession({ sessionId });
    assert.deepEqual(now!.data, { kept: true, one: 1, two: 2, three: 3 });
  });
});

test("update against delete: a session never comes back", { skip }, async () => {
  await race(ROUNDS, async (index) => {
    const { session } = await a.createSession(users("update-delete", index));
    const { sessionId } = session!;
    const [deleted, ...updates] = await rivals(
      () => a.deleteSession({ sessionId }),
      () => b.updateSessionData({ sessionId, data: { x: 1 } }),
      () => a.updateSessionData({ sessionId, data: { y: 1 }, merge: true }),
    );
    assert.equal(valueOf(deleted).deleted, true);
    for (const update of updates) if (update.status === "rejected") isCode(update, "SESSION_NOT_FOUND");
    await assertDead(b, sessionId);
  });
});

test("set and increment against delete: no key comes back", { skip }, async () => {
  await race(ROUNDS, async (index) => {
    const { session } = await a.createHashSession({ ...users("fields-delete", index), fields: { n: "1" } });
    const { sessionId } = session!;
    const [deleted, ...changes] = await rivals(
      () => a.deleteSession({ sessionId }),
      () => b.incrementSessionField({ sessionId, field: "n", delta: 1n }),
      () => a.setSessionFields({ sessionId, fields: { late: "x" } }),
    );
    assert.equal(valueOf(deleted).deleted, true);
    for (const change of changes) if (change.status === "rejected") isCode(change, "SESSION_NOT_FOUND");
    await assertDead(b, sessionId);
    assert.deepEqual(await authorities.keysOfSession(sessionId), []);
  });
});

test("set and increment against expiry: no key comes back, none without a TTL", { skip }, async () => {
  // Each session is written to without a pause, from shortly before its end until it is gone.
  const timeout = { seconds: 1n, nanos: 0 };
  await race(
    ROUNDS,
    async (index) => {
      const { session } = await a.createHashSession({
        ...users("fields-expiry", index),
        fields: { n: "0" },
        absoluteTimeout: timeout,
      });
      const { sessionId } = session!;
      const remainingMs = Number(session!.expireTime!.seconds) * 1000 + session!.expireTime!.nanos / 1e6 - Date.now();
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, remainingMs - 40)));
      for (;;) {
        const [first, second] = await rivals(
          () => b.incrementSessionField({ sessionId, field: "n", delta: 1n }, { timeoutMs: 10_000 }),
          () => a.setSessionFields({ sessionId, fields: { late: "x" } }, { timeoutMs: 10_000 }),
        );
        const gone = [isCode(first, "SESSION_NOT_FOUND"), isCode(second, "SESSION_NOT_FOUND")];
        if (gone[0] && gone[1]) break;
      }
      assert.deepEqual(await authorities.keysOfSession(sessionId), []);
    },
    500,
  );
});

test("increment against increment: the sum is exact", { skip }, async () => {
  await race(ROUNDS, async (index) => {
    const { session } = await a.createHashSession(users("sum", index));
    const { sessionId } = session!;
    const sums = await rivals(
      () => a.incrementSessionField({ sessionId, field: "n", delta: 3n }),
      () => b.incrementSessionField({ sessionId, field: "n", delta: 4n }),
      () => b.incrementSessionField({ sessionId, field: "n", delta: -2n }),
    );
    sums.forEach(valueOf);
    assert.equal((await a.getSessionField({ sessionId, field: "n" })).value, "5");
  });
});

test("create against delete-user-sessions: every live session is in the list", { skip }, async () => {
  await race(ROUNDS, async (index) => {
    const user = users("create-revoke", index);
    const { session: old } = await a.createSession(user);
    const [created, revoked] = await rivals(
      () => a.createSession(user),
      () => b.deleteUserSessions(user),
    );
    const { sessionId } = valueOf(created).session!;
    valueOf(revoked);
    await assertDead(a, old!.sessionId);
    const [{ verdict }, { sessions }] = await Promise.all([b.validateSession({ sessionId }), a.listUserSessions(user)]);
    const listed = sessions.map((session) => session.sessionId);
    assert.deepEqual(listed, verdict === Verdict.VALID ? [sessionId] : []);
    assert.equal(valueOf(revoked).deletedCount, verdict === Verdict.VALID ? 1 : 2);
  });
});

test("the same request_id twice at once creates one session", { skip }, async () => {
  await race(ROUNDS, async (index) => {
    const request = { ...users("request-id", index), requestId: `login-${index}` };
    const outcomes = await rivals(
      () => a.createSession(request),
      () => b.createSession(request),
    );
    const [first, second] = outcomes.map((outcome) => valueOf(outcome).session!.sessionId);
    assert.equal(first, second);
    const { sessions } = await a.listUserSessions(users("request-id", index));
    assert.deepEqual(
      sessions.map((session) => session.sessionId),
      [first],
    );
  });
});
