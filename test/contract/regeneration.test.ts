// RegenerateSession, as the contract describes it: a new id for the same session.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { status } from "@grpc/grpc-js";
import { Verdict } from "../../gen/session/v1/session_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import type { AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

const skip = redisServerMissing();
const notFound = { code: status.NOT_FOUND, reason: "SESSION_NOT_FOUND" };
const grace = { seconds: 60n, nanos: 0 };
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

const make = async (userId: string) => (await client.createSession({ userId })).session!.sessionId;
const verdictOf = async (sessionId: string) => (await client.validateSession({ sessionId })).verdict;

describe("RegenerateSession", { skip }, () => {
  test("gives a new id and keeps everything else; the former id is dead in the same step", async () => {
    const data = { cart: [1, 2], name: "Ada" };
    const device = { deviceId: "laptop", name: "Ada's laptop" };
    const made = [
      await client.createSession({ userId: "keep", data, ipAddress: "192.0.2.1", userAgent: "curl" }),
      await client.createHashSession({ userId: "keep", fields: { a: "1", ["__proto__"]: "2" } }),
      await client.createDeviceSession({ userId: "keep", data, device }),
    ];
    for (const { session: old } of made) {
      await authorities.nextMs();
      const { session, token } = await client.regenerateSession({ sessionId: old!.sessionId });
      const { sessionId, version, lastAccessTime, expireTime, ...same } = session!;
      assert.deepEqual({ ...old!, ...same }, old);
      assert.deepEqual([sessionId === old!.sessionId, version, token], [false, old!.version + 1n, ""]);
      assert.ok(lastAccessTime!.nanos !== old!.lastAccessTime!.nanos && expireTime !== undefined);
      assert.equal(await verdictOf(old!.sessionId), Verdict.INVALID);
      await assert.rejects(client.getSession({ sessionId: old!.sessionId }), notFound);
      assert.deepEqual((await client.getSession({ sessionId })).session!.fields, old!.fields);
    }
    const events = await authorities.auditEvents("keep");
    assert.deepEqual(events, [...Array<string>(3).fill("created"), ...Array<string>(3).fill("regenerated")]);
  });

  test("with a grace, the former id stands for the new one until the grace has passed", async () => {
    const old = await make("grace");
    const { sessionId } = (await client.regenerateSession({ sessionId: old, grace })).session!;
    const sessions = [
      (await client.validateSession({ sessionId: old })).session!,
      (await client.getSession({ sessionId: old })).session!,
      (await client.updateSessionData({ sessionId: old, data: { a: 1 } })).session!,
      (await client.updateSessionData({ sessionId: old, data: { b: 2 }, merge: true })).session!,
    ];
    for (const session of sessions) assert.equal(session.sessionId, sessionId);
    assert.deepEqual((await client.listUserSessions({ userId: "grace" })).sessions.length, 1);
    await assert.rejects(client.regenerateSession({ sessionId: old }), notFound, "another call has won");
    await authorities.passGrace(old);
    assert.equal(await verdictOf(old), Verdict.INVALID);
    assert.equal((await client.deleteSession({ sessionId: old })).deleted, false);
    assert.equal(await verdictOf(sessionId), Verdict.VALID);
  });

  test("within the grace, the former id can be deleted, and kept as except_session_id", async () => {
    const [first, second] = [await make("old id"), await make("old id")];
    const ended = (await client.regenerateSession({ sessionId: first, grace })).session!.sessionId;
    const kept = (await client.regenerateSession({ sessionId: second, grace })).session!.sessionId;
    assert.equal((await client.deleteSession({ sessionId: first })).deleted, true);
    for (const id of [first, ended]) assert.equal(await verdictOf(id), Verdict.INVALID);
    await client.deleteUserSessions({ userId: "old id", exceptSessionId: second });
    for (const id of [second, kept]) assert.equal(await verdictOf(id), Verdict.VALID);
  });

  test("is won by one of ten concurrent calls", async () => {
    const sessionId = await make("ten");
    const calls = Array.from({ length: 10 }, () => client.regenerateSession({ sessionId, grace }));
    const outcomes = await Promise.allSettled(calls);
    assert.equal(outcomes.filter((outcome) => outcome.status === "fulfilled").length, 1);
    for (const outcome of outcomes) {
      if (outcome.status === "rejected") assert.equal(outcome.reason.reason, "SESSION_NOT_FOUND");
    }
    assert.equal((await client.listUserSessions({ userId: "ten" })).sessions.length, 1);
  });

  test("accepts a secure session by its token only, and returns a new token", async () => {
    const { session, token: old } = await client.createSecureSession({ userId: "secure" });
    await assert.rejects(client.regenerateSession({ sessionId: session!.sessionId }), notFound);
    const first = await client.regenerateSession({ token: old });
    assert.equal((await client.validateToken({ token: old })).verdict, Verdict.INVALID);
    const second = await client.regenerateSession({ token: first.token, grace });
    for (const token of [first.token, second.token]) {
      const { verdict, session: valid } = await client.validateToken({ token });
      assert.deepEqual([verdict, valid!.sessionId], [Verdict.VALID, second.session!.sessionId]);
    }
    assert.deepEqual(second.session!.absoluteExpireTime, session!.absoluteExpireTime);
  });

  test("requires exactly one of session_id and token, and a grace of a minute at most", async () => {
    const invalid = { code: status.INVALID_ARGUMENT, reason: "INVALID_REQUEST" };
    const sessionId = await make("handles");
    await assert.rejects(client.regenerateSession({}), invalid);
    await assert.rejects(client.regenerateSession({ sessionId, token: "sat1_x" }), invalid);
    await assert.rejects(client.regenerateSession({ sessionId, grace: { seconds: 61n, nanos: 0 } }), invalid);
    assert.equal(await verdictOf(sessionId), Verdict.VALID);
  });
});
