// Anonymous sessions, and RegenerateSession with a user_id, which makes one the login of a user.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { AuditEventType } from "../../gen/session/v1/audit_pb.ts";
import { LimitPer, OnExceed, Verdict } from "../../gen/session/v1/session_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import { CallError, type AuthorityClient } from "../helpers/grpc_client.ts";
import { race, rivals, valueOf } from "../helpers/races.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { rounds } from "../helpers/rounds.ts";

const ROUNDS = rounds({ quick: 150, all: 3_000, variable: "RACE_ROUNDS" });
const skip = redisServerMissing();
const notFound = { code: status.NOT_FOUND, reason: "SESSION_NOT_FOUND" };
const CART = {
  data: { cart: ["book"] },
  fields: { visits: "41" },
  labels: { app: "shop" },
  device: { deviceId: "laptop", name: "Firefox" },
};

let authorities: Authorities;
let client: AuthorityClient;
let other: AuthorityClient;
let dataDir: string;

before(async () => {
  if (skip) return;
  dataDir = await mkdtemp(join(tmpdir(), "sa-anonymous-"));
  authorities = await startAuthorities({ instances: 2, touchIntervalMs: 0, env: { SA_DATA_DIR: dataDir } });
  [client, other] = authorities.clients as [AuthorityClient, AuthorityClient];
});
after(async () => {
  if (skip) return;
  await authorities.assertStoreSound();
  await authorities.close();
  await rm(dataDir, { recursive: true });
});

const visit = async () => (await client.createSession(CART)).session!.sessionId;
const isAlive = async (sessionId: string) => (await other.validateSession({ sessionId })).verdict === Verdict.VALID;

describe("an anonymous session", { skip }, () => {
  test("has everything but a user", async () => {
    const { session } = await client.createSession(CART);
    const { sessionId } = session!;
    assert.deepEqual([session!.userId, session!.data, session!.fields], ["", CART.data, CART.fields]);
    const validated = await client.validateSession({ sessionId, includeFields: true });
    assert.deepEqual(validated.session, session);
    const { results } = await client.batchValidate({ entries: [{ handle: { case: "sessionId", value: sessionId } }] });
    assert.deepEqual(results[0]!.session, { ...session, fields: {} });
    assert.equal((await client.incrementSessionField({ sessionId, field: "visits", delta: 1n })).value, 42n);
    assert.equal((await client.deleteSession({ sessionId })).deleted, true);
    const { token } = await client.createSecureSession({});
    assert.equal((await client.validateToken({ token })).session!.userId, "");
  });

  test("has no limit of a user, and is found again by its request id", async () => {
    const limit = { maxSessions: 1 };
    await assert.rejects(client.createSession({ limit }), { code: status.INVALID_ARGUMENT });
    const first = await client.createSession({ requestId: "visit" });
    const again = await other.createSession({ requestId: "visit" });
    assert.equal(again.session!.sessionId, first.session!.sessionId);
    assert.notEqual((await client.createSession({})).session!.sessionId, first.session!.sessionId);
  });

  test("leaves nothing but its tombstone behind (cases/audit.md 3)", async () => {
    const keys = async () => {
      const all = (await authorities.control.sendCommand(["KEYS", "sa:*"])) as unknown as string[];
      return new Set(all.filter((key) => /:(a|ac|am|u|d|p|o|s|f|mv):/.test(key)));
    };
    const before = await keys();
    for (let n = 0; n < 50; n++) {
      const { session } = await client.createSession({ device: { deviceId: `d${n}` }, fields: { a: "b" } });
      await client.setSessionFields({ sessionId: session!.sessionId, fields: { c: "d" } });
      await client.deleteSession({ sessionId: session!.sessionId });
    }
    assert.deepEqual(
      [...(await keys())].filter((key) => !before.has(key)),
      [],
    );
  });
});

describe("a login of an anonymous session", { skip }, () => {
  test("keeps everything in one step (cases/login.md 2)", async () => {
    const sessionId = await visit();
    const { session: before } = await client.getSession({ sessionId });
    const authentication = { methods: ["pwd"], level: 1 };
    const { session } = await client.regenerateSession({ sessionId, userId: "ada", authentication });
    assert.notEqual(session!.sessionId, sessionId);
    assert.deepEqual([session!.userId, session!.authentication!.methods], ["ada", ["pwd"]]);
    for (const part of ["data", "fields", "labels", "device", "createTime", "absoluteExpireTime"] as const) {
      assert.deepEqual(session![part], before![part], part);
    }
    assert.deepEqual([await isAlive(sessionId), await isAlive(session!.sessionId)], [false, true]);
    const { sessions } = await client.listUserSessions({ userId: "ada" });
    assert.deepEqual(
      sessions.map((each) => each.sessionId),
      [session!.sessionId],
    );
    const onDevice = await client.getDeviceSession({ deviceId: "laptop" });
    assert.equal(onDevice.session!.sessionId, session!.sessionId);
    const { events } = await client.listAuditEvents({ userId: "ada" });
    assert.deepEqual(
      events.map(({ type }) => type),
      [AuditEventType.CREATED],
    );
    await assert.rejects(client.regenerateSession({ sessionId, userId: "ada" }), notFound);
  });

  test("is the last login on its device, though the session is older than the one before", async () => {
    const device = { deviceId: "kiosk" };
    const { session: visit } = await client.createSession({ device });
    await authorities.nextMs();
    await client.createSession({ userId: "kiosk user 1", device });
    await client.regenerateSession({ sessionId: visit!.sessionId, userId: "kiosk user 2" });
    const { session } = await client.getDeviceSession(device);
    assert.equal(session!.userId, "kiosk user 2");
  });

  test("gives a new token, and a retry gets the same one", async () => {
    const { token } = await client.createSecureSession(CART);
    const request = { token, userId: "grace", requestId: "login" };
    const first = await client.regenerateSession(request);
    const again = await other.regenerateSession(request);
    assert.equal(again.token, first.token);
    assert.deepEqual([again.session!.sessionId, again.session!.fields], [first.session!.sessionId, CART.fields]);
    assert.equal((await client.validateToken({ token: first.token })).session!.userId, "grace");
    assert.equal((await client.validateToken({ token })).verdict, Verdict.INVALID);
    await assert.rejects(client.regenerateSession({ ...request, userId: "mallory" }), notFound);
    await assert.rejects(client.regenerateSession({ ...request, requestId: "other" }), notFound);
  });

  test("follows the rules of a Create, and a refused one changes nothing", async () => {
    const userId = "limited";
    await client.createSession({ userId });
    const sessionId = await visit();
    const reached = { code: status.RESOURCE_EXHAUSTED, reason: "SESSION_LIMIT_REACHED" };
    await assert.rejects(client.regenerateSession({ sessionId, userId, limit: { maxSessions: 1 } }), reached);
    const time = (await client.getServerTime({})).time!;
    await authorities.nextMs();
    await client.deleteUserSessions({ userId });
    const revoked = client.regenerateSession({ sessionId, userId, authentication: { time } });
    await assert.rejects(revoked, { reason: "REVOKED_SINCE_LOGIN" });
    const perAbsent = { maxSessions: 1, per: LimitPer.LABEL, labelKey: "absent" };
    await assert.rejects(client.regenerateSession({ sessionId, userId, limit: perAbsent }), {
      reason: "INVALID_REQUEST",
    });
    assert.equal((await client.incrementSessionField({ sessionId, field: "visits", delta: 1n })).value, 42n);
    for (const request of [{ userId, grace: { seconds: 1n, nanos: 0 } }, { limit: { maxSessions: 1 } }]) {
      await assert.rejects(client.regenerateSession({ sessionId, ...request }), { code: status.INVALID_ARGUMENT });
    }
    await client.createSession({ userId });
    const limit = { maxSessions: 1, onExceed: OnExceed.EVICT_OLDEST };
    await client.regenerateSession({ sessionId, userId, limit });
    assert.equal((await client.listUserSessions({ userId })).sessions.length, 1);
  });

  test("of a session that has a user: only of this one", async () => {
    const { session } = await client.createSession({ userId: "owner" });
    const { sessionId } = session!;
    await assert.rejects(client.regenerateSession({ sessionId, userId: "mallory" }), notFound);
    const regenerated = await client.regenerateSession({ sessionId, userId: "owner" });
    assert.equal(regenerated.session!.userId, "owner");
    assert.equal(timestampMs(regenerated.session!.createTime!), timestampMs(session!.createTime!));
  });
});

describe("races of a login", { skip }, () => {
  const failedBy = (outcome: PromiseSettledResult<unknown>, reason: string) => {
    if (outcome.status === "fulfilled") return false;
    if (outcome.reason instanceof CallError && outcome.reason.reason === reason) return true;
    throw outcome.reason;
  };

  test("against writes: every acknowledged write is in the user's session", async () => {
    await race(ROUNDS, async (index) => {
      const sessionId = await visit();
      const [login, ...writes] = await rivals(
        () => client.regenerateSession({ sessionId, userId: `attach-write-${index}` }),
        () => other.incrementSessionField({ sessionId, field: "visits", delta: 1n }),
        () => client.setSessionFields({ sessionId, fields: { lang: "de" } }),
        () => other.updateSessionData({ sessionId, data: { seen: true }, merge: true }),
      );
      const { session } = await client.getSession({ sessionId: valueOf(login).session!.sessionId });
      const [counted, set, merged] = writes.map((write) => !failedBy(write, "SESSION_NOT_FOUND"));
      assert.equal(session!.fields["visits"], counted ? "42" : "41");
      assert.equal(session!.fields["lang"], set ? "de" : undefined);
      assert.deepEqual(session!.data, merged ? { ...CART.data, seen: true } : CART.data);
      assert.equal(await isAlive(sessionId), false);
    });
  });

  test("against another login: exactly one wins", async () => {
    await race(ROUNDS, async (index) => {
      const sessionId = await visit();
      const [ada, bob] = [`attach-a-${index}`, `attach-b-${index}`];
      const outcomes = await rivals(
        () => client.regenerateSession({ sessionId, userId: ada }),
        () => other.regenerateSession({ sessionId, userId: bob }),
        () => other.regenerateSession({ sessionId }),
      );
      const won = outcomes.filter((outcome) => !failedBy(outcome, "SESSION_NOT_FOUND"));
      const counts = await Promise.all(
        [ada, bob].map(async (userId) => (await client.listUserSessions({ userId })).sessions.length),
      );
      assert.equal(won.length, 1);
      assert.ok(counts[0]! + counts[1]! <= 1);
      assert.equal(await isAlive(valueOf(won[0]!).session!.sessionId), true);
    });
  });

  test("against delete: a session never comes back", async () => {
    await race(ROUNDS, async (index) => {
      const sessionId = await visit();
      const userId = `attach-delete-${index}`;
      const [login, deleted] = await rivals(
        () => client.regenerateSession({ sessionId, userId }),
        () => other.deleteSession({ sessionId }),
      );
      const { sessions } = await client.listUserSessions({ userId });
      // One of the two took effect: the login came first and its session has another id, or the delete did.
      assert.equal(failedBy(login, "SESSION_NOT_FOUND"), valueOf(deleted).deleted);
      assert.equal(sessions.length, valueOf(deleted).deleted ? 0 : 1);
      assert.equal(await isAlive(sessionId), false);
    });
  });

  test("against DeleteUserSessions of the user: all or none", async () => {
    await race(ROUNDS, async (index) => {
      const sessionId = await visit();
      const userId = `attach-revoke-${index}`;
      const [login, revoked] = await rivals(
        () => client.regenerateSession({ sessionId, userId }),
        () => other.deleteUserSessions({ userId }),
      );
      const { sessions } = await client.listUserSessions({ userId });
      assert.equal(sessions.length, 1 - valueOf(revoked).deletedCount);
      assert.equal(await isAlive(valueOf(login).session!.sessionId), sessions.length === 1);
    });
  });
});
