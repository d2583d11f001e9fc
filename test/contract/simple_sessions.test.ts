// Simple sessions, as the contract describes them: create, read, validate, update, end and list by session_id.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { Verdict, type Session } from "../../gen/session/v1/session_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import type { AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

const skip = redisServerMissing();
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const UNKNOWN_ID = "A".repeat(28);
const notFound = { code: status.NOT_FOUND, reason: "SESSION_NOT_FOUND" };
const versionMismatch = { code: status.ABORTED, reason: "VERSION_MISMATCH" };
const precondition = (reason: string) => ({ code: status.FAILED_PRECONDITION, reason });
const invalid = (field: string) => ({ code: status.INVALID_ARGUMENT, reason: "INVALID_REQUEST", fields: [field] });

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

async function login(userId: string, data = {}): Promise<Session> {
  return (await client.createSession({ userId, data })).session!;
}

/** One session of each variant. */
async function loginByEveryVariant(userId: string): Promise<Session[]> {
  const created = [
    await client.createSession({ userId }),
    await client.createHashSession({ userId, fields: { a: "1" } }),
    await client.createSecureSession({ userId }),
    await client.createDeviceSession({ userId, device: { deviceId: `device of ${userId}` } }),
  ];
  return created.map(({ session }) => session!);
}

/** Ids of sessions that have ended, of a secure one, and of none. */
async function idsOfNoSession(userId: string): Promise<string[]> {
  const [deleted, expired] = [await login(userId), await login(userId)];
  const secure = (await client.createSecureSession({ userId })).session!;
  await client.deleteSession({ sessionId: deleted.sessionId });
  await authorities.expireNow(expired.sessionId);
  return [UNKNOWN_ID, "malformed", deleted.sessionId, expired.sessionId, secure.sessionId];
}

const isValid = async (sessionId: string) => {
  return (await client.validateSession({ sessionId })).verdict === Verdict.VALID;
};
const listedIds = async (userId: string) => {
  return (await client.listUserSessions({ userId })).sessions.map(({ sessionId }) => sessionId);
};

/** Asserts that an access moved the idle timeout of a session, and nothing else of its times. */
function assertSlid(session: Session, from: Session, idleTimeoutMs = DAY_MS): void {
  const accessedMs = timestampMs(session.lastAccessTime!);
  assert.ok(accessedMs > timestampMs(from.lastAccessTime!), "last_access_time did not move");
  assert.equal(timestampMs(session.expireTime!), accessedMs + idleTimeoutMs);
  assert.deepEqual(session.createTime, from.createTime);
  assert.deepEqual(session.absoluteExpireTime, from.absoluteExpireTime);
}

describe("CreateSession", { skip }, () => {
  test("returns a live session with everything that the request has", async () => {
    const request = { userId: "create", data: { cart: [1, "two"] }, ipAddress: "192.0.2.1", userAgent: "curl/8" };
    const idleTimeout = { seconds: 3600n, nanos: 0 };
    const { session } = await client.createSession({ ...request, idleTimeout });
    const { sessionId, userId, data, ipAddress, userAgent, version, createTime, ...times } = session!;
    assert.match(sessionId, /^[A-Za-z0-9_-]{28}$/);
    assert.deepEqual({ userId, data, ipAddress, userAgent }, request);
    assert.equal(version, 1n);
    assert.deepEqual(times.lastAccessTime, createTime);
    assert.equal(timestampMs(times.expireTime!) - timestampMs(createTime!), HOUR_MS);
    assert.equal(timestampMs(times.absoluteExpireTime!) - timestampMs(createTime!), 30 * DAY_MS);
    assert.deepEqual((await client.validateSession({ sessionId })).session, session);
    assert.deepEqual(await authorities.auditEvents("create"), ["created"]);
  });

  test("with the request_id of an earlier call returns the session of that call", async () => {
    const request = { userId: "retry", requestId: "r" };
    const { session } = await client.createSession({ ...request, data: { n: 1 } });
    assert.deepEqual((await client.createSession({ ...request, data: { n: 2 } })).session, session);
    assert.deepEqual(await listedIds("retry"), [session!.sessionId]);
    assert.notDeepEqual((await client.createSession({ ...request, userId: "someone else" })).session, session);
    await assert.rejects(client.createHashSession(request), precondition("REQUEST_ID_REUSED"));
    await client.deleteSession({ sessionId: session!.sessionId });
    await assert.rejects(client.createSession(request), precondition("REQUEST_ID_SPENT"));
    assert.deepEqual(await listedIds("retry"), []);
  });

  test("refuses data over 64 KiB", async () => {
    const data = { text: "x".repeat(64 * 1024) };
    await assert.rejects(client.createSession({ userId: "large", data }), invalid("data"));
    assert.deepEqual(await listedIds("large"), []);
  });
});

describe("GetSession", { skip }, () => {
  test("returns the session and slides its idle timeout", async () => {
    const created = await login("get", { name: "Ada" });
    await authorities.nextMs();
    const { session, ipMismatch } = await client.getSession({ sessionId: created.sessionId, ipAddress: "192.0.2.9" });
    const { lastAccessTime, expireTime } = session!;
    assert.deepEqual(session, { ...created, lastAccessTime, expireTime });
    assertSlid(session!, created);
    assert.equal(ipMismatch, false);
  });

  test("never slides the idle timeout beyond the absolute one", async () => {
    const timeout = { seconds: 60n, nanos: 0 };
    const request = { userId: "bounded", idleTimeout: timeout, absoluteTimeout: timeout };
    const { sessionId, absoluteExpireTime } = (await client.createSession(request)).session!;
    await authorities.nextMs();
    const { session } = await client.getSession({ sessionId });
    assert.deepEqual(session!.expireTime, absoluteExpireTime);
  });

  test("is NOT_FOUND for a session that is unknown, has ended, or is secure", async () => {
    for (const sessionId of await idsOfNoSession("get none")) {
      await assert.rejects(client.getSession({ sessionId }), notFound, sessionId);
    }
    await assert.rejects(client.getSession({}), invalid("session_id"));
  });
});

describe("ValidateSession", { skip }, () => {
  test("returns the session and never slides its idle timeout", async () => {
    const created = await login("validate", { name: "Ada" });
    await authorities.nextMs();
    for (let n = 0; n < 2; n++) {
      const { verdict, session } = await client.validateSession({ sessionId: created.sessionId });
      assert.equal(verdict, Verdict.VALID);
      assert.deepEqual(session, created);
    }
  });

  test("leaves out the fields of a hash session", async () => {
    const { session } = await client.createHashSession({ userId: "validate hash", fields: { a: "1" } });
    const validated = await client.validateSession({ sessionId: session!.sessionId });
    assert.deepEqual(validated.session, { ...session!, fields: {} });
  });

  test("is INVALID for a session that is unknown, has ended, or is secure", async () => {
    for (const sessionId of await idsOfNoSession("validate none")) {
      const { verdict, session } = await client.validateSession({ sessionId });
      assert.deepEqual([verdict, session], [Verdict.INVALID, undefined], sessionId);
    }
    await assert.rejects(client.validateSession({}), invalid("session_id"));
  });
});

describe("UpdateSessionData", { skip }, () => {
  test("replaces the data, counts the version up and slides the idle timeout", async () => {
    const created = await login("replace", { old: true });
    const { sessionId } = created;
    await authorities.nextMs();
    const { session } = await client.updateSessionData({ sessionId, data: { new: [null] } });
    assert.deepEqual(session!.data, { new: [null] });
    assert.equal(session!.version, 2n);
    assertSlid(session!, created);
    assert.deepEqual((await client.validateSession({ sessionId })).session, session);
    const cleared = (await client.updateSessionData({ sessionId })).session!;
    assert.deepEqual([cleared.data, cleared.version], [undefined, 3n]);
    assert.deepEqual(await authorities.auditEvents("replace"), ["created", "data_updated", "data_updated"]);
  });

  test("merges by RFC 7396: objects are merged, null removes, anything else replaces", async () => {
    const { sessionId } = await login("merge", {
      keep: 1,
      remove: 2,
      list: [1, 2],
      nested: { keep: "a", remove: "b" },
    });
    const patch = { remove: null, list: [3], nested: { remove: null, add: "c" }, add: { deep: null, value: 4 } };
    const { session } = await client.updateSessionData({ sessionId, data: patch, merge: true });
    const merged = { keep: 1, list: [3], nested: { keep: "a", add: "c" }, add: { value: 4 } };
    assert.deepEqual(session!.data, merged);
    const { session: same } = await client.updateSessionData({ sessionId, merge: true });
    assert.deepEqual([same!.data, same!.version], [merged, 3n]);
  });

  test("keeps every member that concurrent merges write", async () => {
    const { sessionId } = await login("merges");
    const names = Array.from({ length: 10 }, (_, n) => `member ${n}`);
    await Promise.all(names.map((name) => client.updateSessionData({ sessionId, data: { [name]: 1 }, merge: true })));
    const { session } = await client.getSession({ sessionId });
    assert.deepEqual(Object.keys(session!.data!).toSorted(), names);
    assert.equal(session!.version, 11n);
  });

  for (const merge of [false, true]) {
    test(`with expected_version changes that version only${merge ? ", in a merge" : ""}`, async () => {
      const { sessionId } = await login(`version ${merge}`, { n: 0 });
      const update = (n: number, expectedVersion: bigint) =>
        client.updateSessionData({ sessionId, data: { n }, merge, expectedVersion });
      assert.equal((await update(1, 1n)).session!.version, 2n);
      await assert.rejects(update(2, 1n), versionMismatch);
      await assert.rejects(update(2, 3n), versionMismatch);
      const { session } = await client.getSession({ sessionId });
      assert.deepEqual([session!.data, session!.version], [{ n: 1 }, 2n]);
      assert.equal((await update(3, 0n)).session!.version, 3n);
    });
  }

  test("changes a session of any variant by its id", async () => {
    for (const { sessionId, fields } of await loginByEveryVariant("variants")) {
      const { session } = await client.updateSessionData({ sessionId, data: { a: 1 } });
      assert.deepEqual([session!.sessionId, session!.data, session!.fields], [sessionId, { a: 1 }, fields]);
    }
  });

  test("refuses data that would exceed 64 KiB after a merge, and changes nothing", async () => {
    const created = await login("grow", { a: "x".repeat(40_000) });
    const data = { b: "x".repeat(40_000) };
    await assert.rejects(
      client.updateSessionData({ sessionId: created.sessionId, data, merge: true }),
      invalid("data"),
    );
    assert.deepEqual((await client.validateSession({ sessionId: created.sessionId })).session, created);
  });

  test("is NOT_FOUND for a session that is unknown or has ended", async () => {
    const ids = await idsOfNoSession("update none");
    for (const sessionId of ids.slice(0, -1)) {
      for (const merge of [false, true]) {
        await assert.rejects(client.updateSessionData({ sessionId, data: {}, merge }), notFound, sessionId);
      }
    }
  });
});

describe("DeleteSession", { skip }, () => {
  test("ends a session of any variant, once", async () => {
    for (const { sessionId } of await loginByEveryVariant("delete")) {
      assert.equal((await client.deleteSession({ sessionId })).deleted, true);
      assert.equal((await client.deleteSession({ sessionId })).deleted, false);
      assert.equal(await isValid(sessionId), false);
    }
    assert.deepEqual(await listedIds("delete"), []);
    assert.deepEqual((await authorities.auditEvents("delete")).slice(4), Array<string>(4).fill("deleted"));
  });

  test("returns deleted: false for a session that is unknown or expired", async () => {
    const { sessionId: expired } = await login("delete none");
    await authorities.expireNow(expired);
    for (const sessionId of [UNKNOWN_ID, "malformed", expired]) {
      assert.equal((await client.deleteSession({ sessionId })).deleted, false);
    }
  });
});

describe("DeleteUserSessions", { skip }, () => {
  test("ends all live sessions of the user, of every variant, and no other's", async () => {
    const sessions = await loginByEveryVariant("revoke all");
    const expired = await login("revoke all");
    await authorities.expireNow(expired.sessionId);
    const other = await login("revoke all, not me");
    assert.equal((await client.deleteUserSessions({ userId: "revoke all" })).deletedCount, 4);
    assert.deepEqual(await listedIds("revoke all"), []);
    for (const { sessionId } of sessions) assert.equal(await isValid(sessionId), false);
    assert.equal(await isValid(other.sessionId), true);
    assert.equal((await client.deleteUserSessions({ userId: "revoke all" })).deletedCount, 0);
  });

  test("keeps except_session_id, unless it is another user's", async () => {
    const [kept, ended] = [await login("log out elsewhere"), await login("log out elsewhere")];
    const other = await login("log out elsewhere, not me");
    const userId = "log out elsewhere";
    const { deletedCount } = await client.deleteUserSessions({ userId, exceptSessionId: kept.sessionId });
    assert.equal(deletedCount, 1);
    assert.deepEqual([await isValid(kept.sessionId), await isValid(ended.sessionId)], [true, false]);
    await client.deleteUserSessions({ userId, exceptSessionId: other.sessionId });
    assert.deepEqual([await isValid(kept.sessionId), await isValid(other.sessionId)], [false, true]);
  });
});

describe("ListUserSessions", { skip }, () => {
  test("lists the live sessions of every variant as they are, and slides none", async () => {
    const sessions = await loginByEveryVariant("list");
    const [deleted, expired] = [await login("list"), await login("list")];
    await client.deleteSession({ sessionId: deleted.sessionId });
    await authorities.expireNow(expired.sessionId);
    await login("list, not me");
    const byId = (a: Session, b: Session) => (a.sessionId < b.sessionId ? -1 : 1);
    for (let n = 0; n < 2; n++) {
      await authorities.nextMs();
      const page = await client.listUserSessions({ userId: "list" });
      assert.deepEqual(page.sessions.toSorted(byId), sessions.toSorted(byId));
      assert.equal(page.nextPageToken, "");
    }
    assert.deepEqual(await listedIds("list nobody"), []);
  });

  test("page by page shows each session that stays alive once, whatever else happens", async () => {
    const userId = "pages";
    const ids = await Promise.all(Array.from({ length: 60 }, async () => (await login(userId)).sessionId));
    const first = await client.listUserSessions({ userId });
    assert.equal(first.sessions.length, 50, "the default page size");
    const listed: string[] = [];
    for (let pageToken = ""; ;) {
      const page = await client.listUserSessions({ userId, pageSize: 7, pageToken });
      assert.ok(page.sessions.length <= 7);
      listed.push(...page.sessions.map(({ sessionId }) => sessionId));
      pageToken = page.nextPageToken;
      if (pageToken === "") break;
      // Between two pages, one that was listed ends, and one is created and ends.
      await client.deleteSession({ sessionId: listed.at(-1)! });
      await client.deleteSession({ sessionId: (await login(userId)).sessionId });
    }
    assert.deepEqual(listed.toSorted(), ids.toSorted());
  });

  test("refuses the page token of another user, and a page of more than 1,000", async () => {
    await Promise.all([login("token"), login("token")]);
    const { nextPageToken: pageToken } = await client.listUserSessions({ userId: "token", pageSize: 1 });
    assert.notEqual(pageToken, "");
    await assert.rejects(client.listUserSessions({ userId: "not token", pageToken }), invalid("page_token"));
    await assert.rejects(client.listUserSessions({ userId: "token", pageSize: 1001 }), invalid("page_size"));
  });
});
