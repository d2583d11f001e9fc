// Secure sessions, as the contract describes them: the token, its validation, rotation and its grace, revocation.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { SessionState } from "../../gen/session/v1/audit_pb.ts";
import { InvalidationReason, Verdict } from "../../gen/session/v1/session_pb.ts";
import { ValidateTokenRequestSchema } from "../../gen/session/v1/secure_sessions_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import type { AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

const skip = redisServerMissing();
const GRACE_MS = 10_000;
const notFound = { code: status.NOT_FOUND, reason: "SESSION_NOT_FOUND" };

let authorities: Authorities;
let client: AuthorityClient;

before(async () => {
  if (skip) return;
  authorities = await startAuthorities({ touchIntervalMs: 0 });
  client = authorities.clients[0]!;
});
after(async () => {
  if (skip) return;
  await authorities.assertStoreSound();
  await authorities.close();
});

async function login(userId: string) {
  const { session, token } = await client.createSecureSession({ userId, data: { user: userId } });
  return { session: session!, token, sessionId: session!.sessionId };
}
const verdictOf = async (token: string) => (await client.validateToken({ token, touch: false })).verdict;
const endOf = async (sessionId: string) => {
  const { state, reason } = await client.explainSession({ sessionId });
  return state === SessionState.ENDED ? reason : undefined;
};

/** Reads the record: the digest of the secret is at byte 64, that of the former secret at 97, the end of its grace at 129. */
async function recordOf(sessionId: string): Promise<Buffer> {
  const [key] = await authorities.keysOfSession(sessionId);
  return (await authorities.control.sendCommand(["GET", key!], { typeMapping: { 36: Buffer } } as never)) as never;
}

describe("the token", { skip }, () => {
  test("is sat1_ and base64url of kid, session_id, secret and HMAC; the store has the secret's SHA-256", async () => {
    const { token, sessionId } = await login("format");
    assert.match(token, /^sat1_[A-Za-z0-9_-]{116}$/);
    const bytes = Buffer.from(token.slice(5), "base64url");
    assert.equal(bytes.length, 2 + 21 + 32 + 32);
    assert.equal(bytes.toString("base64url", 2, 23), sessionId);
    const digest = createHash("sha256").update(bytes.subarray(23, 55)).digest();
    assert.deepEqual((await recordOf(sessionId)).subarray(64, 96), digest);
  });

  test("validates its session; the id does not", async () => {
    const { token, sessionId, session } = await login("bearer");
    const { verdict, session: valid } = await client.validateToken({ token, touch: false });
    assert.equal(verdict, Verdict.VALID);
    assert.deepEqual(valid, session);
    assert.equal((await client.validateSession({ sessionId })).verdict, Verdict.INVALID);
    await assert.rejects(client.getSession({ sessionId }), notFound);
  });

  test("is INVALID with the same bytes whatever the reason", async () => {
    const [expired, revoked, deleted, reused] = await Promise.all(["e", "r", "d", "g"].map(login));
    await authorities.expireNow(expired!.sessionId);
    await client.revokeToken({ token: revoked!.token });
    await client.deleteSession({ sessionId: deleted!.sessionId });
    const { token: rotated } = await client.rotateToken({ token: reused!.token });
    await authorities.passGrace(reused!.sessionId);
    const dead = [expired!, revoked!, deleted!, reused!].map(({ token }) => token);
    const strange = ["x", "sat1_", `sat1_${"A".repeat(116)}`, expired!.sessionId, "\u0000", "é".repeat(128)];
    const expected = Buffer.from([8, Verdict.INVALID]);
    for (const token of [...dead, rotated, ...strange]) {
      const request = toBinary(ValidateTokenRequestSchema, create(ValidateTokenRequestSchema, { token }));
      assert.deepEqual(await client.raw("validateToken", request), expected, token);
    }
    const tooLong = { code: status.INVALID_ARGUMENT, reason: "INVALID_REQUEST", fields: ["token"] };
    await assert.rejects(client.validateToken({ token: "" }), tooLong);
    await assert.rejects(client.validateToken({ token: "x".repeat(257) }), tooLong);
  });

  test("slides the idle timeout, unless touch is false", async () => {
    const { token, session } = await login("touch");
    await authorities.nextMs();
    const untouched = await client.validateToken({ token, touch: false });
    assert.deepEqual(untouched.session, session);
    const { session: touched } = await client.validateToken({ token });
    assert.ok(timestampMs(touched!.lastAccessTime!) > timestampMs(session.lastAccessTime!));
    assert.ok(timestampMs(touched!.expireTime!) > timestampMs(session.expireTime!));
    assert.deepEqual(touched!.absoluteExpireTime, session.absoluteExpireTime);
    assert.equal(touched!.version, session.version, "a slide is not a change");
    assert.deepEqual((await client.validateToken({ token, touch: false })).session, touched);
  });

  test("of a retried create is a new one; the first is dead", async () => {
    const request = { userId: "retry", requestId: "once" };
    const first = await client.createSecureSession(request);
    const second = await client.createSecureSession(request);
    assert.equal(second.session!.sessionId, first.session!.sessionId);
    assert.notEqual(second.token, first.token);
    assert.equal(await verdictOf(second.token), Verdict.VALID);
    assert.equal(await verdictOf(first.token), Verdict.INVALID);
    assert.equal(await verdictOf(second.token), Verdict.VALID, "the use of the first token must not end the session");
  });
});

describe("rotation", { skip }, () => {
  test("gives the session a new secret, and the former one a grace that no access extends", async () => {
    const { token: old, session, sessionId } = await login("rotate");
    const rotated = await client.rotateToken({ token: old });
    assert.notEqual(rotated.token, old);
    assert.equal(rotated.session!.sessionId, sessionId);
    assert.equal(rotated.session!.version, session.version + 1n);
    assert.deepEqual(rotated.session!.absoluteExpireTime, session.absoluteExpireTime);
    assert.deepEqual(rotated.session!.data, session.data);
    const graceEnd = (await recordOf(sessionId)).readDoubleBE(129);
    assert.equal(graceEnd, timestampMs(rotated.session!.lastAccessTime!) + GRACE_MS);
    await authorities.nextMs();
    for (const token of [old, rotated.token, old]) {
      assert.equal((await client.validateToken({ token })).verdict, Verdict.VALID);
    }
    await assert.rejects(client.rotateToken({ token: old }), { code: status.ABORTED, reason: "ROTATED_CONCURRENTLY" });
    assert.equal((await recordOf(sessionId)).readDoubleBE(129), graceEnd);
    assert.deepEqual(await authorities.auditEvents("rotate"), ["created", "rotated"]);
  });

  test("twice within a grace gives each former token its own grace", async () => {
    const { token: first, sessionId } = await login("twice");
    const { token: second } = await client.rotateToken({ token: first });
    const { token: third } = await client.rotateToken({ token: second });
    for (const token of [first, second, third]) assert.equal(await verdictOf(token), Verdict.VALID);
    await authorities.passGrace(sessionId);
    assert.equal(await verdictOf(third), Verdict.VALID);
    assert.equal(await verdictOf(first), Verdict.INVALID);
    assert.equal(await verdictOf(third), Verdict.INVALID, "the oldest token was reused, which ends the session");
  });

  test("is won by one of ten concurrent calls", async () => {
    const { token } = await login("ten");
    const outcomes = await Promise.allSettled(Array.from({ length: 10 }, () => client.rotateToken({ token })));
    const won = outcomes.filter((outcome) => outcome.status === "fulfilled");
    assert.equal(won.length, 1);
    for (const outcome of outcomes) {
      if (outcome.status === "rejected") assert.equal(outcome.reason.reason, "ROTATED_CONCURRENTLY");
    }
    assert.equal(await verdictOf(won[0]!.value.token), Verdict.VALID);
    assert.deepEqual(await authorities.auditEvents("ten"), ["created", "rotated"]);
  });

  for (const use of ["validateToken", "rotateToken", "revokeToken", "regenerateSession"] as const) {
    test(`a former token presented after the grace ends the session: ${use}`, async () => {
      const userId = `reuse by ${use}`;
      const { token: old, sessionId } = await login(userId);
      const { token } = await client.rotateToken({ token: old });
      await authorities.passGrace(sessionId);
      if (use === "validateToken") assert.equal(await verdictOf(old), Verdict.INVALID);
      else if (use === "revokeToken") assert.equal((await client.revokeToken({ token: old })).deleted, true);
      else await assert.rejects(client[use]({ token: old }), notFound);
      assert.equal(await verdictOf(token), Verdict.INVALID, "the current token must be dead, too");
      assert.equal(await endOf(sessionId), InvalidationReason.TOKEN_REUSED);
      assert.deepEqual(await authorities.auditEvents(userId), ["created", "rotated", "token_reused"]);
    });
  }
});

describe("RevokeToken", { skip }, () => {
  test("requires a valid token", async () => {
    const { token, sessionId } = await login("revoke");
    const bytes = Buffer.from(token.slice(5), "base64url");
    bytes[30]! ^= 1;
    for (const other of [sessionId, `sat1_${bytes.toString("base64url")}`, `sat1_${"A".repeat(116)}`]) {
      assert.equal((await client.revokeToken({ token: other })).deleted, false);
    }
    assert.equal(await verdictOf(token), Verdict.VALID);
    assert.equal((await client.revokeToken({ token })).deleted, true);
    assert.equal((await client.revokeToken({ token })).deleted, false);
    assert.equal(await verdictOf(token), Verdict.INVALID);
    assert.equal(await endOf(sessionId), InvalidationReason.REVOKED);
    assert.deepEqual(await authorities.auditEvents("revoke"), ["created", "revoked"]);
  });

  test("accepts a former token in its grace; DeleteSession accepts the id", async () => {
    const [first, second] = await Promise.all([login("grace"), login("by id")]);
    const { token } = await client.rotateToken({ token: first.token });
    assert.equal((await client.revokeToken({ token: first.token })).deleted, true);
    assert.equal(await verdictOf(token), Verdict.INVALID);
    assert.equal((await client.deleteSession({ sessionId: second.sessionId })).deleted, true);
    assert.equal(await verdictOf(second.token), Verdict.INVALID);
  });
});
