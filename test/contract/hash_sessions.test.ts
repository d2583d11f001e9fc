// Hash sessions, as the contract describes them: flat fields that are read and changed one by one.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import type { Session } from "../../gen/session/v1/session_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import type { AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

const skip = redisServerMissing();
const FIELDS_MAX = 128;
const INT64_MAX = 2n ** 63n - 1n;
const notFound = { code: status.NOT_FOUND, reason: "SESSION_NOT_FOUND" };
const fieldLimit = { code: status.RESOURCE_EXHAUSTED, reason: "FIELD_LIMIT_REACHED" };
const invalid = { code: status.INVALID_ARGUMENT, reason: "INVALID_REQUEST" };

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

async function login(userId: string, fields: Record<string, string> = {}): Promise<Session> {
  return (await client.createHashSession({ userId, fields })).session!;
}
const numbered = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, n) => [`field ${n}`, `${n}`]));
const fieldsOf = async (sessionId: string) => (await client.getSessionFields({ sessionId })).fields;
/** The session as it is, read without an access. */
const sessionOf = async (sessionId: string) => (await client.validateSession({ sessionId })).session!;

/** The four methods that work on the fields of a session. */
const fieldCalls = (sessionId: string): Readonly<Record<string, () => Promise<unknown>>> => ({
  getSessionField: () => client.getSessionField({ sessionId, field: "a" }),
  getSessionFields: () => client.getSessionFields({ sessionId }),
  setSessionFields: () => client.setSessionFields({ sessionId, fields: { a: "2" } }),
  incrementSessionField: () => client.incrementSessionField({ sessionId, field: "n", delta: 1n }),
});

describe("CreateHashSession", { skip }, () => {
  test("returns a live session with its fields", async () => {
    const fields = { a: "1", empty: "", ["__proto__"]: "2", "ü {tag}": "x".repeat(8192) };
    const session = await login("create", fields);
    assert.deepEqual(session.fields, fields);
    assert.deepEqual([session.version, session.data], [1n, undefined]);
    assert.deepEqual(await fieldsOf(session.sessionId), fields);
    assert.deepEqual((await client.getSession({ sessionId: session.sessionId })).session!.fields, fields);
    assert.deepEqual((await login("create without fields")).fields, {});
  });

  test("with the request_id of an earlier call returns the session of that call, with its fields", async () => {
    const request = { userId: "retry", requestId: "r" };
    const { session } = await client.createHashSession({ ...request, fields: { a: "1" } });
    assert.deepEqual((await client.createHashSession({ ...request, fields: { b: "2" } })).session, session);
    assert.equal((await client.listUserSessions({ userId: "retry" })).sessions.length, 1);
  });

  test("refuses reserved and empty names, values over 8 KiB, and more than 128 fields", async () => {
    await login("most", numbered(FIELDS_MAX));
    for (const fields of [{ user_id: "x" }, { data: "x" }, { "": "x" }, { a: "x".repeat(8193) }, numbered(129)]) {
      await assert.rejects(client.createHashSession({ userId: "refused", fields }), invalid);
    }
    assert.deepEqual((await client.listUserSessions({ userId: "refused" })).sessions, []);
  });
});

describe("all methods on fields", { skip }, () => {
  for (const name of Object.keys(fieldCalls(""))) {
    test(`${name} slides the idle timeout`, async () => {
      const { sessionId, ...created } = await login(`slide by ${name}`, { a: "1" });
      await authorities.nextMs();
      await fieldCalls(sessionId)[name]!();
      const session = await sessionOf(sessionId);
      assert.ok(timestampMs(session.lastAccessTime!) > timestampMs(created.lastAccessTime!));
      assert.ok(timestampMs(session.expireTime!) > timestampMs(created.expireTime!));
      assert.deepEqual(session.absoluteExpireTime, created.absoluteExpireTime);
    });
  }

  test("are NOT_FOUND for a session that is unknown or has ended", async () => {
    const [deleted, expired] = [await login("ended", { a: "1" }), await login("ended", { a: "1" })];
    await client.deleteSession({ sessionId: deleted.sessionId });
    await authorities.expireNow(expired.sessionId);
    for (const sessionId of ["A".repeat(28), "malformed", deleted.sessionId, expired.sessionId]) {
      for (const call of Object.values(fieldCalls(sessionId))) await assert.rejects(call(), notFound);
    }
  });
});

describe("GetSessionField", { skip }, () => {
  test("returns the value, an empty one as set and empty, and a missing one as unset", async () => {
    const { sessionId } = await login("get", { a: "1", empty: "" });
    const get = async (field: string) => (await client.getSessionField({ sessionId, field })).value;
    assert.deepEqual([await get("a"), await get("empty"), await get("missing")], ["1", "", undefined]);
    await assert.rejects(get("user_id"), { ...invalid, fields: ["field"] });
    assert.equal((await sessionOf(sessionId)).version, 1n, "a read is not a change");
  });
});

describe("GetSessionFields", { skip }, () => {
  test("returns all fields, or those of the names that exist", async () => {
    const fields = { a: "1", b: "2", empty: "" };
    const { sessionId } = await login("get all", fields);
    assert.deepEqual(await fieldsOf(sessionId), fields);
    const some = await client.getSessionFields({ sessionId, names: ["b", "missing", "empty"] });
    assert.deepEqual(some.fields, { b: "2", empty: "" });
    assert.deepEqual(await fieldsOf((await login("get none")).sessionId), {});
    await assert.rejects(client.getSessionFields({ sessionId, names: Array<string>(129).fill("a") }), invalid);
  });
});

describe("SetSessionFields", { skip }, () => {
  test("writes and removes in one step, leaves the others alone, and counts the version up by one", async () => {
    const { sessionId } = await login("set", { keep: "1", change: "2", remove: "3" });
    const request = { sessionId, fields: { change: "4", add: "5", both: "6" }, remove: ["remove", "both", "missing"] };
    const { session } = await client.setSessionFields(request);
    assert.deepEqual(session!.fields, { keep: "1", change: "4", add: "5" });
    assert.equal(session!.version, 2n);
    assert.deepEqual(await fieldsOf(sessionId), session!.fields);
    assert.deepEqual(await authorities.auditEvents("set"), ["created", "data_updated"]);
  });

  test("with expected_version changes that version only", async () => {
    const { sessionId } = await login("version", { n: "0" });
    const set = (n: string, expectedVersion: bigint) =>
      client.setSessionFields({ sessionId, fields: { n }, expectedVersion });
    assert.equal((await set("1", 1n)).session!.version, 2n);
    await assert.rejects(set("2", 1n), { code: status.ABORTED, reason: "VERSION_MISMATCH" });
    assert.deepEqual(await fieldsOf(sessionId), { n: "1" });
    assert.equal((await set("3", 0n)).session!.version, 3n);
  });

  test("keeps a session within 128 fields: it writes nothing beyond, unless the same call makes room", async () => {
    const { sessionId } = await login("limit", numbered(FIELDS_MAX));
    await assert.rejects(client.setSessionFields({ sessionId, fields: { add: "x", "field 0": "x" } }), fieldLimit);
    assert.deepEqual(await fieldsOf(sessionId), numbered(FIELDS_MAX));
    await client.setSessionFields({ sessionId, fields: { "field 0": "x" } });
    const { session } = await client.setSessionFields({ sessionId, fields: { add: "x" }, remove: ["field 0"] });
    assert.equal(Object.keys(session!.fields).length, FIELDS_MAX);
    assert.equal(session!.version, 3n);
  });

  test("refuses reserved names", async () => {
    const { sessionId } = await login("reserved", { a: "1" });
    for (const name of ["user_id", "version", "tenant", "expire_time"]) {
      await assert.rejects(client.setSessionFields({ sessionId, fields: { [name]: "x" } }), invalid);
    }
    assert.deepEqual(await fieldsOf(sessionId), { a: "1" });
  });
});

describe("IncrementSessionField", { skip }, () => {
  const incrementing = (sessionId: string) => async (field: string, delta: bigint) =>
    (await client.incrementSessionField({ sessionId, field, delta })).value;

  test("adds to an int64, counts a missing field as 0, and counts the version up", async () => {
    const { sessionId } = await login("increment", { n: "40", large: String(2n ** 53n) });
    const increment = incrementing(sessionId);
    assert.deepEqual([await increment("n", 2n), await increment("n", -50n)], [42n, -8n]);
    assert.equal(await increment("missing", -1n), -1n);
    assert.equal(await increment("large", 1n), 2n ** 53n + 1n);
    assert.deepEqual(await fieldsOf(sessionId), { n: "-8", large: String(2n ** 53n + 1n), missing: "-1" });
    assert.equal((await sessionOf(sessionId)).version, 5n);
  });

  test("adds up what concurrent calls add", async () => {
    const { sessionId } = await login("concurrent");
    const values = await Promise.all(Array.from({ length: 20 }, () => incrementing(sessionId)("n", 1n)));
    assert.deepEqual(
      values.map(Number).toSorted((a, b) => a - b),
      Array.from({ length: 20 }, (_, n) => n + 1),
    );
    assert.deepEqual(await fieldsOf(sessionId), { n: "20" });
  });

  test("refuses a value that is no int64 and a sum that is none, and changes nothing", async () => {
    const fields = { text: "x", float: "1.5", large: String(INT64_MAX + 1n), most: String(INT64_MAX) };
    const { sessionId } = await login("no integer", fields);
    const increment = incrementing(sessionId);
    for (const field of ["text", "float", "large"]) {
      await assert.rejects(increment(field, 1n), { code: status.FAILED_PRECONDITION, reason: "NOT_AN_INTEGER" });
    }
    await assert.rejects(increment("most", 1n), { code: status.FAILED_PRECONDITION, reason: "INTEGER_OVERFLOW" });
    assert.deepEqual(await fieldsOf(sessionId), fields);
    assert.equal((await sessionOf(sessionId)).version, 1n);
    assert.equal(await increment("most", -1n), INT64_MAX - 1n);
  });

  test("refuses reserved names and the 129th field", async () => {
    const { sessionId } = await login("limits", numbered(FIELDS_MAX));
    const increment = incrementing(sessionId);
    await assert.rejects(increment("version", 1n), { ...invalid, fields: ["field"] });
    await assert.rejects(increment("add", 1n), fieldLimit);
    assert.equal(await increment("field 1", 1n), 2n);
  });
});
