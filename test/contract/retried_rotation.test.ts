// RotateToken and RegenerateSession whose responses were lost: retries with a request_id and without one, and the theft of an
// old secret, which still ends the session.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { status } from "@grpc/grpc-js";
import { SessionState } from "../../gen/session/v1/audit_pb.ts";
import { InvalidationReason, Verdict } from "../../gen/session/v1/session_pb.ts";
import { rotateTokenKeysFile } from "../../src/auth/token_key_file.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import type { AuthorityClient, CallError } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

const skip = redisServerMissing();
const CONCURRENT_MS = 2_000;
const GRACE_MS = 10_000;
const RETRY_MS = 600_000;
/** An age of a rotation that stays within CONCURRENT_MS, however slow the test is. */
const RECENT_MS = -60_000;
const grace = { seconds: 60n, nanos: 0 };
const notFound = { code: status.NOT_FOUND, reason: "SESSION_NOT_FOUND" };
const concurrent = { code: status.ABORTED, reason: "ROTATED_CONCURRENTLY" };

let authorities: Authorities;
let client: AuthorityClient;

before(async () => {
  if (skip) return;
  authorities = await startAuthorities({ touchIntervalMs: 0, env: { SA_ROTATION_GRACE: `${GRACE_MS}ms` } });
  client = authorities.clients[0]!;
});
after(async () => {
  if (skip) return;
  await authorities.assertStoreSound();
  await authorities.close();
});

async function login(userId: string) {
  const { session, token } = await client.createSecureSession({ userId, data: { user: userId } });
  return { userId, session: session!, token, sessionId: session!.sessionId };
}
const isValid = async (token: string) =>
  (await client.validateToken({ token, touch: false })).verdict === Verdict.VALID;
const endOf = async (sessionId: string) => {
  const { state, reason, note } = await client.explainSession({ sessionId });
  return state === SessionState.ENDED ? { reason, note } : undefined;
};
const reused = { reason: InvalidationReason.TOKEN_REUSED, note: "" };

describe(
  "rotation 1: the response of RotateToken is lost, and the call is repeated with its request_id",
  { skip },
  () => {
    for (const when of ["within the grace", "after the grace"]) {
      test(`${when}, it returns the same token, and nothing changes`, async () => {
        const { userId, token: old, sessionId } = await login(`retry ${when}`);
        const first = await client.rotateToken({ token: old, requestId: "attempt 1" });
        if (when === "after the grace") await authorities.passGrace(sessionId);
        for (let n = 0; n < 3; n++) {
          assert.deepEqual(await client.rotateToken({ token: old, requestId: "attempt 1" }), first);
        }
        assert.ok(await isValid(first.token));
        assert.deepEqual(await authorities.auditEvents(userId), ["created", "rotated"]);
        assert.equal(await endOf(sessionId), undefined);
      });
    }

    test("another request_id, or none, is no retry", async () => {
      const { token: old, sessionId } = await login("other request");
      const { token } = await client.rotateToken({ token: old, requestId: "attempt 1" });
      for (const requestId of ["attempt 2", ""]) {
        await assert.rejects(client.rotateToken({ token: old, requestId }), concurrent);
      }
      await authorities.passGrace(sessionId);
      await assert.rejects(client.rotateToken({ token: old, requestId: "attempt 2" }), notFound);
      assert.equal(await isValid(token), false);
      assert.deepEqual(await endOf(sessionId), reused);
    });

    test("a retry is answered for 10 minutes; after that it is a reuse", async () => {
      const { token: old, sessionId } = await login("ten minutes");
      const request = { token: old, requestId: "attempt" };
      const { token } = await client.rotateToken(request);
      await authorities.passGrace(sessionId);
      await authorities.ageRotation(sessionId, RETRY_MS - 60_000);
      assert.equal((await client.rotateToken(request)).token, token);
      await authorities.ageRotation(sessionId, RETRY_MS + 1);
      await assert.rejects(client.rotateToken(request), notFound);
      assert.deepEqual(await endOf(sessionId), reused);
    });

    test("what a rotation is remembered by expires after 10 minutes", async () => {
      const { token, sessionId } = await login("remembered");
      await client.rotateToken({ token, requestId: "attempt" });
      const [key] = await authorities.control.keys(`*:g:${sessionId}`);
      const ttlMs = await authorities.control.pTTL(key!);
      assert.ok(ttlMs > RETRY_MS - 60_000 && ttlMs <= RETRY_MS, `${ttlMs}`);
    });

    test("after a further rotation it is the use of an old secret", async () => {
      const { token: first, sessionId } = await login("further");
      const request = { token: first, requestId: "attempt 1" };
      const { token: second } = await client.rotateToken(request);
      const { token: third } = await client.rotateToken({ token: second, requestId: "attempt 2" });
      await authorities.ageRotation(sessionId, CONCURRENT_MS);
      await assert.rejects(client.rotateToken(request), concurrent);
      assert.ok(await isValid(third));
      await authorities.passGrace(sessionId);
      await assert.rejects(client.rotateToken(request), notFound);
      assert.deepEqual(await endOf(sessionId), reused);
    });

    test("any other use of the old token after the grace ends the session", async () => {
      const { token: old, sessionId } = await login("other use");
      const { token } = await client.rotateToken({ token: old, requestId: "attempt" });
      await authorities.passGrace(sessionId);
      assert.equal(await isValid(old), false);
      assert.equal(await isValid(token), false);
      assert.deepEqual(await endOf(sessionId), reused);
    });

    test("a retry of a session that has ended does not bring it back", async () => {
      const { token: old, sessionId } = await login("ended");
      const request = { token: old, requestId: "attempt" };
      await client.rotateToken(request);
      await client.deleteSession({ sessionId });
      await assert.rejects(client.rotateToken(request), notFound);
    });

    test("a rotation of the token keys between the attempts changes nothing; the token is minted by the new key", async () => {
      const { token: old, sessionId } = await login("key rotation");
      const other = await login("key rotation by id");
      const simple = (await client.createSession({ userId: "key rotation by id" })).session!;
      const requests = [{ token: other.token }, { sessionId: simple.sessionId }];
      const { token } = await client.rotateToken({ token: old, requestId: "attempt" });
      const regenerated = await Promise.all(requests.map((by) => client.regenerateSession({ ...by, requestId: "r" })));
      const kidOf = (minted: string) => Buffer.from(minted.slice(5), "base64url").readUInt16BE(0);
      const { kid } = rotateTokenKeysFile(`${authorities.redis.dataDir}/token_keys.json`);
      // The service looks at the file every two seconds.
      for (let minted = token; kidOf(minted) !== kid;) minted = (await login("key rotation probe")).token;
      await authorities.passGrace(sessionId);
      const again = await client.rotateToken({ token: old, requestId: "attempt" });
      assert.equal(kidOf(again.token), kid);
      assert.notEqual(again.token, token);
      assert.ok((await isValid(again.token)) && (await isValid(token)));
      for (const [i, by] of requests.entries()) {
        const { session, token: next } = await client.regenerateSession({ ...by, requestId: "r" });
        assert.deepEqual(session, regenerated[i]!.session);
        if (next !== "") assert.ok(await isValid(next));
      }
    });
  },
);

describe(
  "rotation 1, without a request_id: the token before the current one may rotate again in its grace",
  { skip },
  () => {
    test("once a second has passed; the token that was never received is retired with a grace of its own", async () => {
      const { userId, token: old, sessionId } = await login("no request id");
      const lost = await client.rotateToken({ token: old });
      await authorities.ageRotation(sessionId, RECENT_MS);
      await assert.rejects(client.rotateToken({ token: old }), concurrent);
      await authorities.ageRotation(sessionId, CONCURRENT_MS);
      const { token } = await client.rotateToken({ token: old });
      for (const valid of [old, lost.token, token]) assert.ok(await isValid(valid));
      // The lost token is no longer current, and it never was one that may rotate.
      await authorities.ageRotation(sessionId, CONCURRENT_MS);
      await assert.rejects(client.rotateToken({ token: lost.token }), concurrent);
      assert.deepEqual(await authorities.auditEvents(userId), ["created", "rotated", "rotated"]);
      await authorities.passGrace(sessionId);
      assert.equal(await isValid(lost.token), false);
      assert.deepEqual(await endOf(sessionId), reused);
    });

    test("its grace ends when it would have ended without the second rotation", async () => {
      const { token: old, sessionId } = await login("first grace");
      const graceEnd = async () => {
        const [key] = await authorities.keysOfSession(sessionId);
        const record = await authorities.control.sendCommand(["GET", key!], { typeMapping: { 36: Buffer } } as never);
        return (record as unknown as Buffer).readDoubleBE(129);
      };
      await client.rotateToken({ token: old });
      const before = await graceEnd();
      await authorities.ageRotation(sessionId, CONCURRENT_MS);
      await client.rotateToken({ token: old });
      assert.equal(await graceEnd(), before);
      await authorities.passGrace(sessionId);
      await assert.rejects(client.rotateToken({ token: old }), notFound);
      assert.deepEqual(await endOf(sessionId), reused);
    });

    test("a refusal says after how long the token can rotate again, if it can", async () => {
      const { token: first, sessionId } = await login("retry info");
      const { token: second } = await client.rotateToken({ token: first });
      const refusalOf = (call: Promise<unknown>) =>
        call.then(
          () => assert.fail("not refused"),
          (error: unknown) => (error as CallError).retryAfterMs,
        );
      const delayMs = (await refusalOf(client.rotateToken({ token: first })))!;
      // At most twice the rest of the second: delays have jitter.
      assert.ok(delayMs > 0 && delayMs <= 2 * CONCURRENT_MS, `${delayMs} ms`);
      await client.rotateToken({ token: second });
      await authorities.ageRotation(sessionId, CONCURRENT_MS);
      assert.equal(await refusalOf(client.rotateToken({ token: first })), undefined);
    });

    test("a request_id whose token was replaced since does not bring that token back", async () => {
      const { token: old, sessionId } = await login("back");
      const replaced = await client.rotateToken({ token: old, requestId: "attempt 1" });
      await authorities.ageRotation(sessionId, CONCURRENT_MS);
      const { token } = await client.rotateToken({ token: old, requestId: "attempt 2" });
      await authorities.ageRotation(sessionId, CONCURRENT_MS);
      await assert.rejects(client.rotateToken({ token: old, requestId: "attempt 1" }), concurrent);
      assert.equal((await client.rotateToken({ token: old, requestId: "attempt 2" })).token, token);
      assert.ok(await isValid(replaced.token), "within its grace");
    });

    test("RevokeToken accepts it and ends the session", async () => {
      const { token: old, sessionId } = await login("revoke by the parent");
      const { token } = await client.rotateToken({ token: old, requestId: "attempt" });
      assert.equal((await client.revokeToken({ token: old })).deleted, true);
      assert.equal(await isValid(token), false);
      assert.deepEqual(await endOf(sessionId), { reason: InvalidationReason.REVOKED, note: "" });
    });
  },
);

describe(
  "rotation 2: the response of RegenerateSession is lost, and the call is repeated with its request_id",
  { skip },
  () => {
    const makers = {
      "by token": async () => ({ token: (await login("regenerate")).token }),
      "by id": async () => ({
        sessionId: (await client.createHashSession({ userId: "hash", fields: { a: "1" } })).session!.sessionId,
      }),
    };
    for (const [by, make] of Object.entries(makers)) {
      for (const withGrace of [false, true]) {
        test(`${by}, ${withGrace ? "with" : "without"} a grace: it returns the same session and token`, async () => {
          const handle = await make();
          const request = { ...handle, requestId: "attempt", ...(withGrace && { grace }) };
          const first = await client.regenerateSession(request);
          const events = await authorities.auditEvents(first.session!.userId);
          for (let n = 0; n < 2; n++) assert.deepEqual(await client.regenerateSession(request), first);
          assert.deepEqual(await authorities.auditEvents(first.session!.userId), events);
          const { sessionId } = first.session!;
          if (first.token === "") assert.equal((await client.validateSession({ sessionId })).verdict, Verdict.VALID);
          else assert.ok(await isValid(first.token));
          const others = [
            { ...request, requestId: "other" },
            { ...request, requestId: "" },
          ];
          for (const other of others) await assert.rejects(client.regenerateSession(other), notFound);
        });

        test(`${by}, ${withGrace ? "with" : "without"} a grace: no retry after 10 minutes, nor of an ended session`, async () => {
          const handles = [await make(), await make()];
          const [late, ended] = handles.map((handle) => ({
            ...handle,
            requestId: "attempt",
            ...(withGrace && { grace }),
          }));
          await client.regenerateSession(late!);
          await authorities.ageRotation(idOf(late!), RETRY_MS - 60_000);
          await client.regenerateSession(late!);
          await authorities.ageRotation(idOf(late!), RETRY_MS + 1);
          await assert.rejects(client.regenerateSession(late!), notFound);
          const { session } = await client.regenerateSession(ended!);
          await client.deleteSession({ sessionId: session!.sessionId });
          await assert.rejects(client.regenerateSession(ended!), notFound);
        });
      }
    }

    test("after a further rotation or regeneration it is not found, and ends nothing", async () => {
      const [rotated, regenerated] = [await login("rotated since"), await login("regenerated since")];
      const first = await client.regenerateSession({ token: rotated.token, requestId: "attempt" });
      const { token } = await client.rotateToken({ token: first.token });
      const second = await client.regenerateSession({ token: regenerated.token, requestId: "attempt" });
      const third = await client.regenerateSession({ token: second.token, grace });
      for (const old of [rotated, regenerated]) {
        await assert.rejects(client.regenerateSession({ token: old.token, requestId: "attempt" }), notFound);
      }
      assert.ok((await isValid(token)) && (await isValid(third.token)));
    });

    test("neither the id of a secure session nor an older token can retry what a token began", async () => {
      const { token, sessionId } = await login("whose retry");
      const { token: next } = await client.rotateToken({ token });
      await client.regenerateSession({ token: next, requestId: "attempt" });
      for (const handle of [{ token }, { sessionId }]) {
        await assert.rejects(client.regenerateSession({ ...handle, requestId: "attempt" }), notFound);
      }
    });

    test("no key holds a token's new secret: its digest alone is stored", async () => {
      const { token } = await login("stored");
      const { token: next } = await client.regenerateSession({ token, requestId: "attempt" });
      const secret = Buffer.from(next.slice(5), "base64url").subarray(23, 55);
      for (const key of await authorities.control.keys("*")) {
        if ((await authorities.control.type(key)) !== "string") continue;
        const value = await authorities.control.sendCommand(["GET", key], { typeMapping: { 36: Buffer } } as never);
        assert.equal((value as unknown as Buffer).indexOf(secret), -1, key);
      }
    });
  },
);

const idOf = ({ token, sessionId }: { token?: string; sessionId?: string }) =>
  sessionId ?? Buffer.from(token!.slice(5), "base64url").toString("base64url", 2, 23);

test("rotation 3: a retried create voids every earlier token, also the rotated ones", { skip }, async () => {
  const request = { userId: "create retry", requestId: "login" };
  const { token: first, session } = await client.createSecureSession(request);
  const { sessionId } = session!;
  const { token: second } = await client.rotateToken({ token: first, requestId: "attempt" });
  await authorities.passGrace(sessionId);
  const { token: third } = await client.rotateToken({ token: second });
  const again = await client.createSecureSession(request);
  assert.equal(again.session!.sessionId, sessionId);
  for (const requestId of ["", "attempt"]) {
    for (const token of [first, second, third]) {
      await assert.rejects(client.rotateToken({ token, requestId }), notFound);
      await assert.rejects(client.regenerateSession({ token, requestId }), notFound);
      assert.equal((await client.revokeToken({ token })).deleted, false);
      assert.equal(await isValid(token), false);
    }
  }
  assert.ok(await isValid(again.token), "the use of the earlier tokens must not end the session");
  const { token: fourth } = await client.rotateToken({ token: again.token });
  await authorities.passGrace(sessionId);
  for (const token of [first, second, third]) assert.equal(await isValid(token), false);
  assert.ok(await isValid(fourth));
});

test("rotation 4: of 20 concurrent rotations of one token without request_id one wins", { skip }, async () => {
  for (const late of [false, true]) {
    const { userId, token, sessionId } = await login(`twenty ${late}`);
    if (late) {
      await client.rotateToken({ token });
      await authorities.ageRotation(sessionId, CONCURRENT_MS);
    }
    const outcomes = await Promise.allSettled(Array.from({ length: 20 }, () => client.rotateToken({ token })));
    const won = outcomes.filter((outcome) => outcome.status === "fulfilled");
    assert.equal(won.length, 1);
    for (const outcome of outcomes) {
      if (outcome.status === "rejected") assert.equal(outcome.reason.reason, "ROTATED_CONCURRENTLY");
    }
    assert.ok(await isValid(won[0]!.value.token));
    assert.equal((await authorities.auditEvents(userId)).length, late ? 3 : 2);
  }
});

test(
  "rotation 4: of 20 concurrent rotations with one request_id, all get the same token of one rotation",
  { skip },
  async () => {
    const { userId, token } = await login("twenty retries");
    const calls = Array.from({ length: 20 }, () => client.rotateToken({ token, requestId: "attempt" }));
    const tokens = new Set((await Promise.all(calls)).map((response) => response.token));
    assert.equal(tokens.size, 1);
    assert.ok(await isValid([...tokens][0]!));
    assert.deepEqual(await authorities.auditEvents(userId), ["created", "rotated"]);
  },
);

for (const requestId of ["", "attempt"]) {
  test(`rotation 5: a secret two generations old ends the session (request_id "${requestId}")`, { skip }, async () => {
    const { token: first, sessionId } = await login(`two generations ${requestId}`);
    const { token: second } = await client.rotateToken({ token: first, requestId });
    await authorities.passGrace(sessionId);
    const { token: third } = await client.rotateToken({ token: second, requestId });
    await assert.rejects(client.rotateToken({ token: first, requestId }), notFound);
    assert.equal(await isValid(third), false);
    assert.deepEqual(await endOf(sessionId), reused);
  });
}

test("request_id has at most 256 bytes", { skip }, async () => {
  const { token } = await login("long");
  const invalid = { code: status.INVALID_ARGUMENT, reason: "INVALID_REQUEST", fields: ["request_id"] };
  await assert.rejects(client.rotateToken({ token, requestId: "é".repeat(129) }), invalid);
  await assert.rejects(client.regenerateSession({ token, requestId: "é".repeat(129) }), invalid);
  await client.rotateToken({ token, requestId: "é".repeat(128) });
});
