// Who ended a session and why, as no caller can forge it, and ends that take the user to whom the session must belong.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { AuditEventType } from "../../gen/session/v1/audit_pb.ts";
import { InvalidationReason, OnExceed, RevocationReason } from "../../gen/session/v1/session_pb.ts";
import { InvalidateSessionRequestSchema } from "../../gen/session/v1/watch_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import type { AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

const skip = redisServerMissing();
const notFound = { reason: "SESSION_NOT_FOUND" };
const by = { metadata: { authorization: "Bearer secret" } };
const PRINCIPAL = "backend / a";
const why = { actor: "somebody else", note: "because: 100 %\nof it" };

let directory: string;
let authorities: Authorities;
let client: AuthorityClient;

before(async () => {
  if (skip) return;
  directory = await mkdtemp(join(tmpdir(), "sa-principal-"));
  const sha256 = createHash("sha256").update("secret").digest("hex");
  const key = { name: PRINCIPAL, tenant: "acme", sha256, scopes: ["read", "write", "audit", "watch"] };
  const SA_API_KEYS_FILE = join(directory, "callers.json");
  await writeFile(SA_API_KEYS_FILE, JSON.stringify({ keys: [key] }));
  authorities = await startAuthorities({ touchIntervalMs: 0, env: { SA_API_KEYS_FILE } });
  client = authorities.clients[0]!;
});
after(async () => {
  if (skip) return;
  await authorities.assertStoreSound();
  await authorities.close();
  await rm(directory, { recursive: true });
});

const make = async (userId: string, more: object = {}) =>
  (await client.createSession({ userId, ...more }, by)).session!.sessionId;
const trail = async (userId: string) => (await client.listAuditEvents({ userId, pageSize: 1000 }, by)).events;

describe("the audit trail", { skip }, () => {
  // Case audit.md 1.
  test("keeps a revocation that 1,300 increments of another session follow", async () => {
    const userId = "washed";
    const stolen = await make(userId);
    const note = "stolen laptop";
    await client.invalidateSession({ sessionId: stolen, reason: RevocationReason.STOLEN_CREDENTIAL, note }, by);
    const { session } = await client.createHashSession({ userId, fields: {} }, by);
    const { sessionId } = session!;
    const increment = () => client.incrementSessionField({ sessionId, field: "n", delta: 1n }, by);
    for (let n = 0; n < 13; n++) await Promise.all(Array.from({ length: 100 }, increment));
    const events = await trail(userId);
    const { CREATED, REVOKED, DATA_UPDATED } = AuditEventType;
    assert.deepEqual(
      events.filter(({ type }) => type !== DATA_UPDATED).map(({ type, note }) => `${type} ${note}`),
      [`${CREATED} `, `${REVOKED} ${note}`, `${CREATED} `],
    );
    assert.equal(events.filter(({ type }) => type === DATA_UPDATED).length, 200);
  });

  // Case audit.md 2.
  test("records an InvalidateSession as REVOKED by its principal, whatever the caller says", async () => {
    const sessionId = await make("forged");
    const reason = RevocationReason.SUSPICIOUS_ACTIVITY;
    await client.invalidateSession({ sessionId, reason, ...why }, by);
    const [event] = await trail("forged");
    const expected = { ...why, principal: PRINCIPAL, revocationReason: reason };
    const { actor, note, principal, revocationReason } = event!;
    assert.deepEqual({ actor, note, principal, revocationReason }, expected);
    assert.equal(event!.type, AuditEventType.REVOKED);
    const explained = await client.explainSession({ sessionId }, by);
    assert.equal(explained.reason, InvalidationReason.REVOKED);
    assert.deepEqual([explained.principal, explained.actor, explained.note], [PRINCIPAL, why.actor, why.note]);
    assert.equal(explained.revocationReason, reason);
    // No reason that a caller can give has the name of an event of the service.
    const names = InvalidateSessionRequestSchema.field.reason.enum!.values.map(({ localName }) => localName);
    const own = names.filter(
      (name) => name !== "UNSPECIFIED" && (name in InvalidationReason || name in AuditEventType),
    );
    assert.deepEqual(own, []);
  });

  test("names the principal, the actor and the note of every create, but of its consequences no note", async () => {
    const user = { userId: "every create", ...why };
    await client.createSession(user, by);
    await client.createHashSession(user, by);
    await client.createSecureSession(user, by);
    const limit = { maxSessions: 1, onExceed: OnExceed.EVICT_OLDEST };
    await client.createDeviceSession({ ...user, device: { deviceId: "d" }, limit }, by);
    const { CREATED, EVICTED } = AuditEventType;
    const events = (await trail(user.userId)).map(({ type, principal, actor, note }) => ({
      type,
      principal,
      actor,
      note,
    }));
    const entry = (type: AuditEventType, note: string) => ({ type, principal: PRINCIPAL, actor: why.actor, note });
    const created = entry(CREATED, why.note);
    assert.deepEqual(events, [created, ...Array(3).fill(entry(EVICTED, "")), created, created, created]);
  });

  test("names the principal, the actor and the note of every end, and the principal of every change", async () => {
    const userId = "every end";
    const { session: hash } = await client.createHashSession({ userId, fields: {} }, by);
    const { sessionId } = hash!;
    await client.updateSessionData({ sessionId, data: {} }, by);
    await client.setSessionFields({ sessionId, fields: { a: "1" } }, by);
    await client.incrementSessionField({ sessionId, field: "n", delta: 1n }, by);
    const { session: regenerated } = await client.regenerateSession({ sessionId }, by);
    await client.deleteSession({ sessionId: regenerated!.sessionId, ...why }, by);
    await client.invalidateSession({ sessionId: await make(userId), ...why }, by);
    const { token } = await client.createSecureSession({ userId }, by);
    const rotated = await client.rotateToken({ token }, by);
    await client.revokeToken({ token: rotated.token, ...why }, by);
    await client.createDeviceSession({ userId, device: { deviceId: "d" } }, by);
    await client.revokeDevice({ userId, deviceId: "d", ...why }, by);
    await make(userId);
    await client.deleteUserSessions({ userId, ...why }, by);
    const { DELETED, REVOKED, DEVICE_REVOKED, USER_REVOKED, REGENERATED } = AuditEventType;
    const events = await trail(userId);
    const ends = events.filter(({ type }) => [DELETED, REVOKED, DEVICE_REVOKED, USER_REVOKED].includes(type as never));
    assert.equal(ends.length, 5);
    for (const event of events) {
      assert.equal(event.principal, PRINCIPAL);
      const expected = ends.includes(event) ? why : { actor: "", note: "" };
      assert.deepEqual({ actor: event.actor, note: event.note }, expected, `type ${event.type}`);
    }
    const [regeneration] = events.filter(({ type }) => type === REGENERATED);
    const ids = [regeneration!.previousSessionId, regeneration!.sessionId];
    assert.deepEqual(ids, [sessionId, regenerated!.sessionId]);
  });

  test("distinguishes the idle timeout from the absolute one, and a limit from a login on the same device", async () => {
    const [idle, absolute] = [durationFromMs(60_000), durationFromMs(60_000)];
    const limit = { maxSessions: 1, onExceed: OnExceed.EVICT_OLDEST };
    const secure = async (userId: string, more: object) =>
      (await client.createSecureSession({ userId, ...more }, by)).session!.sessionId;
    const onDevice = async (userId: string, more: object = {}) =>
      (await client.createDeviceSession({ userId, device: { deviceId: "d" }, ...more }, by)).session!.sessionId;
    const { EXPIRED, ABSOLUTE_TIMEOUT, EVICTED, DEVICE_REPLACED } = InvalidationReason;
    const ended: [string, InvalidationReason][] = [];
    for (const [i, create] of [make, secure, onDevice].entries()) {
      const expected: [object, InvalidationReason][] = [
        [{ idleTimeout: idle }, EXPIRED],
        [{ absoluteTimeout: absolute }, ABSOLUTE_TIMEOUT],
      ];
      for (const [timeout, reason] of expected) {
        const id = await create(`timeouts ${i} ${reason}`, timeout);
        await authorities.expireNow(id);
        ended.push([id, reason]);
      }
    }
    const evicted = await make("limit");
    await make("limit", { limit });
    const replaced = await onDevice("device");
    await onDevice("device", { limit });
    ended.push([evicted, EVICTED], [replaced, DEVICE_REPLACED]);
    for (const [sessionId, reason] of ended) {
      assert.equal((await client.explainSession({ sessionId }, by)).reason, reason);
    }
    const [event] = await trail(`timeouts 1 ${ABSOLUTE_TIMEOUT}`);
    const { type, principal, actor } = event!;
    assert.deepEqual([type, principal, actor], [AuditEventType.ABSOLUTE_TIMEOUT, "", ""]);
  });
});

test("what ends or changes a session by id does nothing if the session is of another user", { skip }, async () => {
  const { session } = await client.createHashSession({ userId: "alice", fields: { n: "1" } }, by);
  const { sessionId } = session!;
  // Not a prefix of the owner either.
  for (const userId of ["bob", "alic", "alice2", "alice:", "*"]) {
    const own = { sessionId, userId };
    for (const merge of [false, true]) {
      for (const expectedVersion of [0n, 1n, 7n]) {
        await assert.rejects(
          client.updateSessionData({ ...own, data: { a: 1 }, merge, expectedVersion }, by),
          notFound,
        );
      }
    }
    await assert.rejects(client.setSessionFields({ ...own, fields: { n: "2" }, expectedVersion: 7n }, by), notFound);
    await assert.rejects(client.incrementSessionField({ ...own, field: "n", delta: 1n }, by), notFound);
    assert.equal((await client.deleteSession(own, by)).deleted, false);
    assert.equal((await client.invalidateSession(own, by)).deleted, false);
  }
  const unchanged = (await client.getSession({ sessionId }, by)).session!;
  assert.deepEqual([unchanged.version, unchanged.fields["n"], unchanged.data], [1n, "1", undefined]);
  const own = { sessionId, userId: "alice" };
  await client.updateSessionData({ ...own, data: { a: 1 }, merge: true }, by);
  await client.setSessionFields({ ...own, fields: { n: "2" } }, by);
  assert.equal((await client.incrementSessionField({ ...own, field: "n", delta: 1n }, by)).value, 3n);
  assert.equal((await client.deleteSession(own, by)).deleted, true);
});
