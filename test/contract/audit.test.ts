// The audit trail, explanations and the isolation of tenants, as the contract describes them.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { AuditEventType, SessionState } from "../../gen/session/v1/audit_pb.ts";
import { InvalidationReason, Verdict } from "../../gen/session/v1/session_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import { CallError, type AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

const skip = redisServerMissing();
const notFound = { code: status.NOT_FOUND, reason: "SESSION_NOT_FOUND" };
const grace = { seconds: 60n, nanos: 0 };
const as = (caller: string) => ({ metadata: { authorization: `Bearer key-of-${caller}` } });
const [acme, other] = [as("acme"), as("other")];

let directory: string;
let authorities: Authorities;
let client: AuthorityClient;

before(async () => {
  if (skip) return;
  directory = await mkdtemp(join(tmpdir(), "sa-audit-"));
  const keys = ["acme", "other"].map((tenant) => {
    const sha256 = createHash("sha256").update(`key-of-${tenant}`).digest("hex");
    return { name: `${tenant}'s backend`, tenant, sha256, scopes: ["read", "write", "audit"] };
  });
  const SA_API_KEYS_FILE = join(directory, "callers.json");
  await writeFile(SA_API_KEYS_FILE, JSON.stringify({ keys }));
  authorities = await startAuthorities({ touchIntervalMs: 0, env: { SA_API_KEYS_FILE } });
  client = authorities.clients[0]!;
});
after(async () => {
  if (skip) return;
  await authorities.assertStoreSound();
  await authorities.close();
  await rm(directory, { recursive: true });
});

const make = async (userId: string) => (await client.createSession({ userId }, acme)).session!.sessionId;

describe("ListAuditEvents", { skip }, () => {
  test("lists newest first, by page, by type and by time", async () => {
    const instants: Timestamp[] = [];
    const ids: string[] = [];
    for (let n = 0; n < 5; n++) {
      await authorities.nextMs();
      const { session } = await client.createSession({ userId: "trail" }, acme);
      instants.push(session!.createTime!);
      ids.push(session!.sessionId);
      await client.deleteSession({ sessionId: ids[n]! }, acme);
    }
    const list = async (request: object) => {
      const { events } = await client.listAuditEvents({ userId: "trail", ...request }, acme);
      return events.map(({ type, sessionId }) => `${type} ${ids.indexOf(sessionId)}`);
    };
    const { CREATED, DELETED } = AuditEventType;
    const all = [4, 3, 2, 1, 0].flatMap((n) => [`${DELETED} ${n}`, `${CREATED} ${n}`]);
    assert.deepEqual(await list({}), all);
    assert.deepEqual(
      await list({ types: [CREATED] }),
      all.filter((_, i) => i % 2 === 1),
    );
    assert.deepEqual(await list({ types: [CREATED, DELETED] }), all);
    assert.deepEqual(await list({ types: [AuditEventType.ROTATED] }), []);
    // start_time is inclusive, end_time is exclusive.
    const [startTime, endTime] = [instants[1]!, instants[3]!];
    assert.deepEqual(await list({ startTime }), all.slice(0, 8));
    assert.deepEqual(await list({ endTime }), all.slice(4));
    assert.deepEqual(await list({ startTime, endTime }), all.slice(4, 8));
    assert.deepEqual(await list({ startTime: endTime, endTime: startTime }), []);

    const paged: string[] = [];
    const filters = { userId: "trail", types: [CREATED], endTime };
    for (let pageToken = ""; ;) {
      const page = await client.listAuditEvents({ ...filters, pageSize: 2, pageToken }, acme);
      assert.ok(page.events.length <= 2);
      paged.push(...page.events.map(({ sessionId }) => sessionId));
      pageToken = page.nextPageToken;
      if (pageToken === "") break;
      const foreign = { fields: ["page_token"], reason: "INVALID_REQUEST" };
      await assert.rejects(client.listAuditEvents({ userId: "trail", pageToken }, acme), foreign);
      await assert.rejects(client.listAuditEvents({ ...filters, userId: "handles", pageToken }, acme), foreign);
      await assert.rejects(client.listAuditEvents({ ...filters, pageToken }, other), foreign);
    }
    assert.deepEqual(paged, ids.slice(0, 3).toReversed());
  });

  test("keeps the last 1,000 logins and ends, each once and in order, even if many share a millisecond", async () => {
    const { session } = await client.createHashSession({ userId: "long trail", fields: {} }, acme);
    const { sessionId } = session!;
    const change = () => client.incrementSessionField({ sessionId, field: "n", delta: 1n }, acme);
    const logInAndOut = async () => {
      await client.deleteSession({ sessionId: await make("long trail") }, acme);
    };
    for (let n = 0; n < 7; n++) await Promise.all(Array.from({ length: 80 }, () => [logInAndOut(), change()]).flat());
    const eventIds: string[] = [];
    const changes: AuditEventType[] = [];
    for (let pageToken = ""; ;) {
      const page = await client.listAuditEvents({ userId: "long trail", pageSize: 150, pageToken }, acme);
      eventIds.push(...page.events.map(({ eventId }) => eventId));
      changes.push(...page.events.map(({ type }) => type).filter((type) => type === AuditEventType.DATA_UPDATED));
      pageToken = page.nextPageToken;
      if (pageToken === "") break;
    }
    assert.deepEqual([eventIds.length, changes.length], [1200, 200]);
    const numbers = eventIds.map((id) => id.split("-").map(Number) as [number, number]);
    for (const [n, [ms, count]] of numbers.entries()) {
      const [laterMs, laterCount] = numbers[n - 1] ?? [Infinity, 0];
      assert.ok(
        ms < laterMs || (ms === laterMs && count < laterCount),
        `${ms}-${count} after ${laterMs}-${laterCount}`,
      );
    }
    assert.ok(new Set(numbers.map(([ms]) => ms)).size < 1200, "no two events were of one millisecond");
  });

  test("times at the limits of their type are accepted or INVALID_REQUEST, never an internal error", async () => {
    await make("edges");
    for (const seconds of [-(2n ** 63n), -1n, 0n, 253_402_300_799n, 2n ** 54n, 2n ** 63n - 1n]) {
      const at = { seconds, nanos: 0 };
      for (const range of [{ startTime: at }, { endTime: at }]) {
        const outcome = await client.listAuditEvents({ userId: "edges", ...range }, acme).catch((error) => error);
        const expected = seconds <= 0n === "startTime" in range ? 1 : 0;
        const what = `${Object.keys(range)[0]} ${seconds}: ${outcome}`;
        if (outcome instanceof CallError) assert.equal(outcome.reason, "INVALID_REQUEST", what);
        else assert.equal(outcome.events.length, expected, what);
      }
    }
  });

  test("names the principal, the actor, the session and the device", async () => {
    const { session } = await client.createDeviceSession({ userId: "who", device: { deviceId: "a b:c" } }, acme);
    await client.deleteUserSessions({ userId: "who", actor: "support / Zoë", note: "phone lost" }, acme);
    const { events } = await client.listAuditEvents({ userId: "who" }, acme);
    assert.equal(new Set(events.map(({ eventId }) => eventId)).size, 2);
    const [revoked, created] = events.map(({ eventId: _id, time: _time, ...event }) => event);
    const by = { userId: "who", principal: "acme's backend", revocationReason: 0, previousSessionId: "" };
    const $typeName = "session.v1.AuditEvent";
    const { sessionId } = session!;
    const nobody = { $typeName, actor: "", note: "", deletedCount: 0 };
    const { CREATED, USER_REVOKED } = AuditEventType;
    assert.deepEqual(created, { ...by, ...nobody, type: CREATED, sessionId, deviceId: "a b:c" });
    const why = { $typeName, actor: "support / Zoë", note: "phone lost" };
    assert.deepEqual(revoked, { ...by, ...why, type: USER_REVOKED, sessionId: "", deviceId: "", deletedCount: 1 });
  });
});

describe("ExplainSession", { skip }, () => {
  test("reports a session as alive, as ended (by whom, when and why), or as unknown", async () => {
    const ends: Record<string, (sessionId: string) => Promise<unknown>> = {
      DELETED: (sessionId) => client.deleteSession({ sessionId }, acme),
      USER_REVOKED: () => client.deleteUserSessions({ userId: "explained" }, acme),
      EVICTED: () => client.createSession({ userId: "explained", limit: { maxSessions: 1, onExceed: 2 } }, acme),
      REGENERATED: (sessionId) => client.regenerateSession({ sessionId, grace }, acme),
      EXPIRED: (sessionId) => authorities.expireNow(sessionId),
    };
    for (const [name, end] of Object.entries(ends)) {
      const sessionId = await make("explained");
      const alive = await client.explainSession({ sessionId }, acme);
      assert.deepEqual([alive.state, alive.userId, alive.endTime], [SessionState.ALIVE, "explained", undefined]);
      const fromMs = await authorities.nextMs();
      await end(sessionId);
      const ended = await client.explainSession({ sessionId }, acme);
      const reason = InvalidationReason[name as keyof typeof InvalidationReason];
      assert.deepEqual([ended.state, ended.reason, ended.userId], [SessionState.ENDED, reason, "explained"], name);
      assert.deepEqual([ended.principal, ended.actor], [name === "EXPIRED" ? "" : "acme's backend", ""]);
      const atMs = Number(ended.endTime!.seconds) * 1000 + ended.endTime!.nanos / 1e6;
      assert.ok(atMs >= fromMs && atMs < (await authorities.nextMs()), `${name} at ${atMs}`);
    }
    for (const sessionId of ["A".repeat(28), "x", "\u0000", "é".repeat(100)]) {
      const { $typeName: _, ...unknown } = await client.explainSession({ sessionId }, acme);
      const nobody = { principal: "", actor: "", note: "", userId: "" };
      const nothing = { ...nobody, reason: 0, revocationReason: 0, endTime: undefined };
      assert.deepEqual({ ...nothing, ...unknown }, { ...nothing, state: SessionState.UNKNOWN });
    }
  });
});

test("another tenant can neither read nor end a session, even if it knows all ids", { skip }, async () => {
  const user = { userId: "shared" };
  const device = { deviceId: "shared" };
  const hash = (await client.createHashSession({ ...user, fields: { a: "1" } }, acme)).session!;
  const held = (await client.createDeviceSession({ ...user, device }, acme)).session!;
  const { session: secure, token } = await client.createSecureSession(user, acme);
  for (const { sessionId } of [hash, held, secure!]) {
    assert.equal((await client.validateSession({ sessionId }, other)).verdict, Verdict.INVALID);
    for (const call of [
      () => client.getSession({ sessionId }, other),
      () => client.updateSessionData({ sessionId, data: {} }, other),
      () => client.getSessionFields({ sessionId }, other),
      () => client.setSessionFields({ sessionId, fields: { a: "2" } }, other),
      () => client.incrementSessionField({ sessionId, field: "a", delta: 1n }, other),
      () => client.regenerateSession({ sessionId }, other),
      () => client.regenerateSession({ token }, other),
      () => client.rotateToken({ token }, other),
      () => client.getDeviceSession(device, other),
      () => client.getDeviceSession({ ...user, ...device }, other),
    ]) {
      await assert.rejects(call(), notFound);
    }
    assert.equal((await client.explainSession({ sessionId }, other)).state, SessionState.UNKNOWN);
    assert.equal((await client.deleteSession({ sessionId }, other)).deleted, false);
  }
  assert.equal((await client.validateToken({ token }, other)).verdict, Verdict.INVALID);
  assert.equal((await client.revokeToken({ token }, other)).deleted, false);
  assert.equal((await client.revokeDevice({ ...user, ...device }, other)).deleted, false);
  assert.equal((await client.deleteUserSessions(user, other)).deletedCount, 0);
  const lists = [client.listUserSessions(user, other), client.listUserDevices(user, other)];
  for (const { sessions } of await Promise.all(lists)) assert.deepEqual(sessions, []);
  const { events } = await client.listAuditEvents(user, other);
  assert.deepEqual(
    events.map(({ type }) => type),
    [AuditEventType.USER_REVOKED],
    "its own DeleteUserSessions only",
  );

  // A login in the other tenant neither replaces nor counts nor returns a session of this one.
  await client.createDeviceSession({ ...user, device, limit: { maxSessions: 1, onExceed: 2 } }, other);
  assert.equal((await client.getDeviceSession(device, acme)).session!.sessionId, held.sessionId);
  assert.equal((await client.listUserSessions(user, acme)).sessions.length, 3);
  assert.equal((await client.validateToken({ token }, acme)).verdict, Verdict.VALID);
});
