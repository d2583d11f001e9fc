// Changes of living sessions, as the contract describes them: UpdateSession, RecordAuthentication; and GetServerTime.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { durationFromMs, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { AuditEventType } from "../../gen/session/v1/audit_pb.ts";
import { IpBinding, TimeoutProfile, Verdict, type Session } from "../../gen/session/v1/session_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import type { AuthorityClient } from "../helpers/grpc_client.ts";
import { race, rivals, valueOf } from "../helpers/races.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { rounds } from "../helpers/rounds.ts";

const ROUNDS = rounds({ quick: 200, all: 3_000, variable: "RACE_ROUNDS" });
const HOUR_MS = 3_600_000;
const skip = redisServerMissing();
const notFound = { code: status.NOT_FOUND, reason: "SESSION_NOT_FOUND" };
const refused = { code: status.INVALID_ARGUMENT };

let authorities: Authorities;
let client: AuthorityClient;

before(async () => {
  if (skip) return;
  authorities = await startAuthorities({ instances: 2, touchIntervalMs: 0, env: { SA_ABSOLUTE_TIMEOUT_MAX: "60d" } });
  client = authorities.clients[0]!;
});
after(async () => {
  if (skip) return;
  await authorities.assertStoreSound();
  await authorities.close();
});

const mask = (...paths: string[]) => ({ updateMask: { paths } });
const idleMs = (session: Session) => timestampMs(session.expireTime!) - timestampMs(session.lastAccessTime!);

async function login(userId: string): Promise<Session> {
  const device = { deviceId: "phone", name: "old name", ipAddress: "192.0.2.1" };
  const request = {
    userId,
    ipAddress: "192.0.2.1",
    device,
    labels: { app: "shop" },
    data: { kept: true },
    fields: { kept: "1" },
  };
  return (await client.createSession(request)).session!;
}

describe("UpdateSession", { skip }, () => {
  test("changes what the mask names and nothing else", async () => {
    const created = await login("update");
    const { sessionId } = created;
    const everything = {
      ...{
        sessionId,
        idleTimeout: durationFromMs(HOUR_MS),
        deviceName: "new name",
        deviceLastIpAddress: "203.0.113.9",
      },
      ...{ labels: { app: "mail", sid: "7" }, ipBinding: IpBinding.INVALIDATE },
    };
    const { session } = await client.updateSession({ ...everything, ...mask("device_name") });
    assert.deepEqual([session!.device!.name, session!.device!.lastIpAddress], ["new name", ""]);
    assert.equal(session!.version, created.version + 1n);
    const same = { ...session!, version: created.version, device: created.device };
    assert.deepEqual(same, created, "nothing else has changed, and the idle timeout has not been slid");

    const paths = ["idle_timeout", "device_last_ip_address", "labels", "ip_binding"];
    const { session: all } = await client.updateSession({ ...everything, ...mask(...paths) });
    assert.equal(all!.device!.lastIpAddress, "203.0.113.9");
    assert.deepEqual(all!.labels, { app: "mail", sid: "7" });
    assert.equal(idleMs(all!), HOUR_MS);
    assert.deepEqual([all!.data, all!.fields], [created.data, created.fields]);
    await assert.rejects(client.getSession({ sessionId, ipAddress: "198.51.100.1" }), notFound);
  });

  test("shortens the absolute deadline, and lengthens it up to SA_ABSOLUTE_TIMEOUT_MAX", async () => {
    const { sessionId, createTime } = await login("deadline");
    const move = (atMs: number) =>
      client.updateSession({ sessionId, absoluteExpireTime: timestampFromMs(atMs), ...mask("absolute_expire_time") });
    const createdMs = timestampMs(createTime!);
    const { session } = await move(createdMs + HOUR_MS);
    assert.equal(timestampMs(session!.absoluteExpireTime!), createdMs + HOUR_MS);
    assert.equal(timestampMs(session!.expireTime!), createdMs + HOUR_MS);
    const later = await move(createdMs + 50 * 24 * HOUR_MS);
    assert.equal(timestampMs(later.session!.absoluteExpireTime!), createdMs + 50 * 24 * HOUR_MS);
    for (const atMs of [createdMs + 61 * 24 * HOUR_MS, createdMs - 1, await authorities.nextMs()]) {
      await assert.rejects(move(atMs), { ...refused, fields: ["absolute_expire_time"] });
    }
    const tooLong = durationFromMs(61 * 24 * HOUR_MS);
    const create = client.createSession({ userId: "deadline", absoluteTimeout: tooLong });
    await assert.rejects(create, { ...refused, fields: ["absolute_timeout"] });
  });

  test("refuses a mask that names nothing or something else, and a device that is not there", async () => {
    const { session } = await client.createSession({ userId: "refused" });
    const { sessionId } = session!;
    for (const paths of [[], ["user_id"], ["labels", "session_id"]]) {
      await assert.rejects(client.updateSession({ sessionId, ...mask(...paths) }), {
        ...refused,
        fields: ["update_mask"],
      });
    }
    for (const path of ["device_name", "device_last_ip_address", "idle_timeout", "absolute_expire_time"]) {
      await assert.rejects(client.updateSession({ sessionId, ...mask(path) }), { ...refused, fields: [path] });
    }
    assert.deepEqual((await client.validateSession({ sessionId })).session, session);
  });

  test("checks the version and the user", async () => {
    const { sessionId, version } = await login("conditions");
    const update = { sessionId, labels: {}, ...mask("labels") };
    const mismatch = { code: status.ABORTED, reason: "VERSION_MISMATCH" };
    await assert.rejects(client.updateSession({ ...update, expectedVersion: version + 1n }), mismatch);
    await assert.rejects(client.updateSession({ ...update, userId: "somebody else" }), notFound);
    await assert.rejects(client.updateSession({ ...update, sessionId: "A".repeat(28) }), notFound);
    const request = { ...update, expectedVersion: version, userId: "conditions", actor: "ada" };
    assert.deepEqual((await client.updateSession(request)).session!.labels, {});
    const { events } = await client.listAuditEvents({ userId: "conditions", types: [AuditEventType.UPDATED] });
    assert.deepEqual(
      events.map(({ note, actor }) => [note, actor]),
      [["labels", "ada"]],
    );
  });

  test("shorten against touch: the deadline is never past the new one", async () => {
    const other = authorities.clients[1]!;
    await race(ROUNDS, async (index) => {
      const { sessionId, createTime } = await login(`shorten-${index}`);
      const deadlineMs = timestampMs(createTime!) + HOUR_MS;
      const absoluteExpireTime = timestampFromMs(deadlineMs);
      const [updated, ...others] = await rivals(
        () => client.updateSession({ sessionId, absoluteExpireTime, ...mask("absolute_expire_time") }),
        () => other.getSession({ sessionId }),
        () => client.incrementSessionField({ sessionId, field: "n", delta: 1n }),
        () => other.setSessionFields({ sessionId, fields: { x: "y" } }),
      );
      valueOf(updated);
      for (const outcome of others) assert.equal(outcome.status, "fulfilled");
      const { session } = await client.getSession({ sessionId });
      assert.equal(timestampMs(session!.expireTime!), deadlineMs);
      assert.deepEqual(session!.fields, { kept: "1", n: "1", x: "y" });
      assert.equal(session!.version, 4n);
    });
  });

  test("update against delete: a session never comes back", async () => {
    const other = authorities.clients[1]!;
    await race(ROUNDS, async (index) => {
      const { sessionId } = await login(`update-delete-${index}`);
      const [deleted] = await rivals(
        () => client.deleteSession({ sessionId }),
        () => other.updateSession({ sessionId, labels: { a: "b" }, ...mask("labels") }),
        () => other.recordAuthentication({ sessionId, authentication: { level: 2 } }),
      );
      assert.equal(valueOf(deleted).deleted, true);
      assert.equal((await other.validateSession({ sessionId })).verdict, Verdict.INVALID);
    });
  });
});

describe("RecordAuthentication", { skip }, () => {
  test("makes a session strong enough, and replaces its token in the same step", async () => {
    const { session, token } = await client.createSecureSession({ userId: "step up", authentication: { level: 1 } });
    const isStrong = async (bearer: string) => {
      const { verdict, stepUpRequired } = await client.validateToken({ token: bearer, minLevel: 2 });
      return verdict === Verdict.VALID && !stepUpRequired;
    };
    assert.equal(await isStrong(token), false);
    const authentication = { methods: ["pwd", "otp"], level: 2 };
    const recorded = await client.recordAuthentication({ token, authentication, rotate: true, userId: "step up" });
    assert.equal(recorded.session!.sessionId, session!.sessionId);
    assert.deepEqual(recorded.session!.authentication!.methods, ["pwd", "otp"]);
    assert.deepEqual(
      [await isStrong(recorded.token), await isStrong(token)],
      [true, true],
      "the old one is in its grace",
    );
    const rotated = { code: status.ABORTED, reason: "ROTATED_CONCURRENTLY" };
    await assert.rejects(client.recordAuthentication({ token, authentication, rotate: true }), rotated);
    await authorities.passGrace(session!.sessionId);
    assert.deepEqual(
      [await isStrong(token), await isStrong(recorded.token)],
      [false, false],
      "its reuse ends the session",
    );
  });

  test("with rotate, a retry with the same request_id returns the token again and changes nothing", async () => {
    const { session, token } = await client.createSecureSession({ userId: "retried step up" });
    const { sessionId } = session!;
    const request = { token, authentication: { level: 2 }, rotate: true, requestId: "first" };
    const first = await client.recordAuthentication(request);
    const retry = await client.recordAuthentication({ ...request, authentication: { level: 3 } });
    assert.deepEqual([retry.token, retry.session], [first.token, first.session]);
    const { requestId: _, ...withoutId } = request;
    const others = [{ ...request, requestId: "second" }, withoutId];
    for (const other of others) {
      await assert.rejects(client.recordAuthentication(other), { reason: "ROTATED_CONCURRENTLY" });
    }
    // The caller has not received the token: the one before it may be replaced once more.
    await authorities.ageRotation(sessionId, 2000);
    const { token: third } = await client.recordAuthentication(withoutId);
    assert.equal((await client.validateToken({ token: third })).verdict, Verdict.VALID);
    await authorities.passGrace(sessionId);
    await assert.rejects(client.recordAuthentication(request), notFound, "a stolen older token ends the session");
    assert.equal((await client.validateToken({ token: third })).verdict, Verdict.INVALID);
  });

  test("with rotate, of concurrent calls one wins, and retries of one call are the same", async () => {
    const other = authorities.clients[1]!;
    await race(ROUNDS, async (index) => {
      const { token } = await client.createSecureSession({ userId: `step-up-${index}` });
      const stepUp = (from: AuthorityClient, requestId: string) =>
        from.recordAuthentication({ token, authentication: { level: 2 }, rotate: true, requestId });
      const [one, two, three, rotated] = await rivals(
        () => stepUp(client, "same"),
        () => stepUp(other, "same"),
        () => stepUp(client, "another"),
        () => other.rotateToken({ token, requestId: "same" }),
      );
      const won = [one, two, three, rotated].filter((outcome) => outcome.status === "fulfilled");
      const tokens = new Set(won.map((outcome) => outcome.value.token));
      assert.equal(tokens.size, 1);
      assert.equal(one.status, two.status);
      assert.equal(won.length, one.status === "fulfilled" ? 2 : 1);
      assert.equal((await other.validateToken({ token: [...tokens][0]! })).verdict, Verdict.VALID);
    });
  });

  test("by id, in the future, of another user, of nobody", async () => {
    const { sessionId } = await login("by id");
    const time = timestampFromMs((await authorities.nextMs()) - 1000);
    const { session, token } = await client.recordAuthentication({ sessionId, authentication: { time, level: 3 } });
    assert.deepEqual([session!.authentication!.time, session!.authentication!.level, token], [time, 3, ""]);
    const { events } = await client.listAuditEvents({ userId: "by id", types: [AuditEventType.AUTHENTICATED] });
    assert.equal(events.length, 1);
    const record = (request: object) => client.recordAuthentication({ sessionId, authentication: {}, ...request });
    const future = timestampFromMs((await authorities.nextMs()) + 60_000);
    await assert.rejects(record({ authentication: { time: future } }), { reason: "AUTHENTICATED_IN_FUTURE" });
    await assert.rejects(record({ userId: "somebody else" }), notFound);
    await assert.rejects(record({ sessionId: "A".repeat(28) }), notFound);
    await assert.rejects(record({ sessionId: "malformed" }), notFound);
    await assert.rejects(record({ token: `sat1_${"A".repeat(116)}`, sessionId: "" }), notFound);
    for (const request of [{ sessionId: "" }, { token: "x" }, { rotate: true }, { authentication: undefined }]) {
      await assert.rejects(record(request), refused, JSON.stringify(request));
    }
  });
});

describe("GetServerTime", { skip }, () => {
  test("is the store's clock, so that a login with it is never refused (cases/login.md 1)", async () => {
    const beforeMs = await authorities.nextMs();
    const { time } = await client.getServerTime({ userId: "anybody" });
    const afterMs = await authorities.nextMs();
    assert.ok(beforeMs <= timestampMs(time!) && timestampMs(time!) <= afterMs);
    await client.deleteUserSessions({ userId: "clock" });
    await authorities.nextMs();
    const { time: later } = await client.getServerTime({});
    await client.createSession({ userId: "clock", authentication: { time: later! } });
    const refusedLogin = client.createSession({ userId: "clock", authentication: { time: timestampFromMs(beforeMs) } });
    await assert.rejects(refusedLogin, { reason: "REVOKED_SINCE_LOGIN" });
  });
});

describe("timeout profiles", { skip }, () => {
  const spans = ({ createTime, expireTime, absoluteExpireTime }: Session) =>
    [expireTime!, absoluteExpireTime!].map((time) => (timestampMs(time) - timestampMs(createTime!)) / HOUR_MS);

  test("set what a Create leaves unset", async () => {
    for (const [timeoutProfile, expected] of [
      [TimeoutProfile.AAL1, [720, 720]],
      [TimeoutProfile.AAL2, [1, 24]],
      [TimeoutProfile.AAL3, [0.25, 12]],
    ] as const) {
      const { session } = await client.createSession({ userId: "profile", timeoutProfile });
      assert.deepEqual(spans(session!), expected);
    }
    const own = { timeoutProfile: TimeoutProfile.AAL2, idleTimeout: durationFromMs(2 * HOUR_MS) };
    assert.deepEqual(spans((await client.createSession({ userId: "profile", ...own })).session!), [2, 24]);
  });
});

describe("the scope extend", { skip }, () => {
  let dir: string;
  let guarded: Authorities;
  const keys = { writer: ["write"], extender: ["write", "extend"] };
  const as = (name: string) => ({ metadata: { authorization: `Bearer ${name}` } });

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), "sa-extend-"));
    const file = join(dir, "keys.json");
    const entries = Object.entries(keys).map(([name, scopes]) => {
      return { name, tenant: "t", scopes, sha256: createHash("sha256").update(name).digest("hex") };
    });
    await writeFile(file, JSON.stringify({ keys: entries }));
    guarded = await startAuthorities({ env: { SA_API_KEYS_FILE: file, SA_TIMEOUT_PROFILE: "aal3" } });
  });
  after(async () => {
    await guarded?.close();
    await rm(dir, { recursive: true });
  });

  test("is needed to lengthen a session, and not to shorten it", async () => {
    const to = guarded.clients[0]!;
    const { session } = await to.createSession({ userId: "u" }, as("writer"));
    const { sessionId, createTime, absoluteExpireTime } = session!;
    assert.equal(timestampMs(absoluteExpireTime!) - timestampMs(createTime!), 12 * HOUR_MS, "SA_TIMEOUT_PROFILE");
    const move = (hours: number, name: string) => {
      const time = timestampFromMs(timestampMs(createTime!) + hours * HOUR_MS);
      return to.updateSession({ sessionId, absoluteExpireTime: time, ...mask("absolute_expire_time") }, as(name));
    };
    await move(6, "writer");
    await assert.rejects(move(7, "writer"), { code: status.PERMISSION_DENIED, reason: "SCOPE_MISSING" });
    await move(7, "extender");
  });
});
