// Hostile input: each value is INVALID_ARGUMENT or round-trips exactly.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { toBinary, create } from "@bufbuild/protobuf";
import { BinaryWriter } from "@bufbuild/protobuf/wire";
import { status } from "@grpc/grpc-js";
import { CreateSessionRequestSchema } from "../../gen/session/v1/simple_sessions_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import type { AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

const skip = redisServerMissing();
const INT64_MAX = 2n ** 63n - 1n;
const INT64_MIN = -(2n ** 63n);

let authorities: Authorities;
let client: AuthorityClient;

before(async () => {
  if (skip) return;
  authorities = await startAuthorities();
  client = authorities.clients[0]!;
});
after(async () => {
  if (skip) return;
  await authorities.assertStoreSound();
  await authorities.close();
});

const invalid = (...fields: string[]) => ({ code: status.INVALID_ARGUMENT, reason: "INVALID_REQUEST", fields });
const HOSTILE_IDS = [
  "a\u0000b",
  "a\r\nSET x y",
  "{00}",
  "a:b",
  "a%3Ab",
  "sa:{001z}:s:x",
  "*",
  "../..",
  " ",
  "__proto__",
  "constructor",
  "\u{1F600}é\u202e",
  "x".repeat(256),
];

describe("ids", { skip }, () => {
  for (const userId of HOSTILE_IDS) {
    test(`user_id ${JSON.stringify(userId.slice(0, 20))} round-trips and is not mistaken for another`, async () => {
      const requestId = userId;
      const { session } = await client.createSession({ userId, requestId, userAgent: userId, ipAddress: userId });
      const again = await client.createSession({ userId, requestId });
      assert.equal(again.session!.sessionId, session!.sessionId);
      const { sessions } = await client.listUserSessions({ userId });
      assert.equal(sessions.length, 1);
      assert.equal(sessions[0]!.userId, userId);
      assert.equal(sessions[0]!.userAgent, userId);
      assert.equal(sessions[0]!.ipAddress, userId);
      assert.equal((await client.deleteUserSessions({ userId })).deletedCount, 1);
    });
  }

  test("owners that would be equal without encoding are different", async () => {
    await client.createSession({ userId: "a:b" });
    await client.createSession({ userId: "a%3Ab" });
    assert.equal((await client.listUserSessions({ userId: "a:b" })).sessions.length, 1);
    assert.equal((await client.listUserSessions({ userId: "a" })).sessions.length, 0);
  });

  test("too long and empty ids", async () => {
    await assert.rejects(client.createSession({ userId: "x".repeat(257) }), invalid("user_id"));
    await assert.rejects(client.createSession({ userId: "é".repeat(129) }), invalid("user_id"));
    await assert.rejects(client.listUserSessions({}), invalid("user_id"));
    await assert.rejects(client.getSession({}), invalid("session_id"));
    await assert.rejects(client.validateSession({}), invalid("session_id"));
    await assert.rejects(client.createSession({ userId: "u", requestId: "r".repeat(257) }), invalid("request_id"));
  });

  test("every bad field is named at once", async () => {
    await assert.rejects(
      client.createSession({
        userId: "x".repeat(257),
        requestId: "r".repeat(257),
        idleTimeout: { seconds: 0n, nanos: 0 },
      }),
      (error: { fields: string[] }) => {
        assert.deepEqual(error.fields.toSorted(), ["idle_timeout", "request_id", "user_id"]);
        return true;
      },
    );
  });

  test("a session_id that no session can have is not found, and to a validation just invalid", async () => {
    for (const sessionId of [...HOSTILE_IDS, "A".repeat(27), "A".repeat(29), "=".repeat(28), "A".repeat(28)]) {
      const { verdict, session } = await client.validateSession({ sessionId });
      assert.equal(verdict, 2);
      assert.equal(session, undefined);
      await assert.rejects(client.getSession({ sessionId }), { code: status.NOT_FOUND, reason: "SESSION_NOT_FOUND" });
      assert.equal((await client.deleteSession({ sessionId })).deleted, false);
    }
  });

  test("INVALID is the same bytes for unknown, ended and malformed", async () => {
    const { session } = await client.createSession({ userId: "oracle" });
    await client.deleteSession({ sessionId: session!.sessionId });
    const responses = await Promise.all(
      [session!.sessionId, "A".repeat(28), "nonsense", "\u0000"].map((sessionId) =>
        client.raw("validateSession", rawString(1, Buffer.from(sessionId))),
      ),
    );
    for (const response of responses) assert.deepEqual(response, responses[0]);
  });
});

/** One length-delimited field, its bytes as given. */
function rawString(fieldNumber: number, bytes: Uint8Array): Uint8Array {
  return new BinaryWriter()
    .uint32((fieldNumber << 3) | 2)
    .bytes(bytes)
    .finish();
}

describe("ill-formed bytes", { skip }, () => {
  const cases: [string, Uint8Array][] = [
    ["overlong UTF-8", Uint8Array.of(0xc0, 0xaf)],
    ["an encoded surrogate", Uint8Array.of(0xed, 0xa0, 0x80)],
    ["a lone continuation byte", Uint8Array.of(0x61, 0x80)],
    ["beyond U+10FFFF", Uint8Array.of(0xf4, 0x90, 0x80, 0x80)],
  ];
  for (const [name, bytes] of cases) {
    test(`${name} is INVALID_ARGUMENT`, async () => {
      await assert.rejects(client.raw("createSession", rawString(1, bytes)), { code: status.INVALID_ARGUMENT });
    });
  }

  test("a lone surrogate, sent as JSON, is INVALID_ARGUMENT", async () => {
    const response = await fetch(`http://${authorities.httpAddresses[0]}/session.v1.SessionService/CreateSession`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: '{"userId":"\\ud800"}',
    });
    assert.equal(response.status, 400);
    assert.equal(((await response.json()) as { code: string }).code, "invalid_argument");
  });

  test("truncated and random messages are INVALID_ARGUMENT", async () => {
    const whole = toBinary(CreateSessionRequestSchema, create(CreateSessionRequestSchema, { userId: "someone" }));
    await assert.rejects(client.raw("createSession", whole.subarray(0, -1)), { code: status.INVALID_ARGUMENT });
    await assert.rejects(client.raw("createSession", Buffer.alloc(64, 0xff)), { code: status.INVALID_ARGUMENT });
  });
});

describe("data", { skip }, () => {
  test("special member names round-trip, through a merge too", async () => {
    const data = JSON.parse('{"__proto__":{"a":1},"constructor":{"prototype":2},"toString":null,"":"empty","k":[]}');
    const { session } = await client.createSession({ userId: "d", data });
    const { session: read } = await client.getSession({ sessionId: session!.sessionId });
    assert.equal(JSON.stringify(read!.data), JSON.stringify(data));
    const patch = JSON.parse('{"__proto__":{"b":2}}');
    await client.updateSessionData({ sessionId: session!.sessionId, data: patch, merge: true });
    const { session: merged } = await client.getSession({ sessionId: session!.sessionId });
    assert.equal(JSON.stringify((merged!.data as Record<string, unknown>)["constructor"]), '{"prototype":2}');
    assert.equal(JSON.stringify(Object.getOwnPropertyDescriptor(merged!.data, "__proto__")!.value), '{"a":1,"b":2}');
    assert.equal(({} as Record<string, unknown>)["b"], undefined, "a prototype was polluted");
  });

  test("3,000 levels, 33 levels, 1 MiB, over 64 KiB, not finite", async () => {
    const nested = (levels: number) => {
      let value: object = {};
      for (let i = 1; i < levels; i++) value = { v: value };
      return value as never;
    };
    const { session } = await client.createSession({ userId: "deep", data: nested(32) });
    assert.deepEqual((await client.getSession({ sessionId: session!.sessionId })).session!.data, nested(32));
    await assert.rejects(client.createSession({ userId: "deep", data: nested(33) }), invalid("data"));
    await assert.rejects(client.raw("createSession", deepStruct(3000)), { code: status.INVALID_ARGUMENT });
    await assert.rejects(client.createSession({ userId: "big", data: { x: "y".repeat(65_536) } }), invalid("data"));
    await assert.rejects(client.createSession({ userId: "big", data: { x: "y".repeat(1 << 20) } }), {
      code: status.RESOURCE_EXHAUSTED,
    });
    const sized = { x: "y".repeat(65_000) };
    const big = await client.createSession({ userId: "big", data: sized });
    assert.deepEqual((await client.getSession({ sessionId: big.session!.sessionId })).session!.data, sized);
    for (const x of [NaN, Infinity, -Infinity]) {
      await assert.rejects(client.createSession({ userId: "nan", data: { x } }), invalid("data"));
    }
    assert.equal((await client.listUserSessions({ userId: "nan" })).sessions.length, 0);
  });

  test("a merge may not grow the data over its limit, and then changes nothing", async () => {
    const { session } = await client.createSession({ userId: "grow", data: { a: "y".repeat(40_000) } });
    const { sessionId } = session!;
    const patch = { b: "y".repeat(40_000) };
    await assert.rejects(client.updateSessionData({ sessionId, data: patch, merge: true }), invalid("data"));
    assert.deepEqual((await client.getSession({ sessionId })).session!.data, { a: "y".repeat(40_000) });
  });
});

/** A CreateSessionRequest whose data is `levels` deep, written by hand since no library writes it. */
function deepStruct(levels: number): Uint8Array {
  let struct: Uint8Array = new Uint8Array();
  for (let i = 0; i < levels; i++) {
    const value = rawString(5, struct);
    struct = rawString(1, Buffer.concat([rawString(1, Buffer.from("v")), rawString(2, value)]));
  }
  return Buffer.concat([rawString(1, Buffer.from("deep")), rawString(2, struct)]);
}

describe("fields", { skip }, () => {
  test("special names and values round-trip", async () => {
    const names = ["__proto__", "constructor", "hasOwnProperty", "\u0000", "a\r\nb", "{}", "%", ":", "\u{1F600}"];
    const fields = Object.fromEntries(names.map((name) => [name, name.repeat(3)]));
    const { session } = await client.createHashSession({ userId: "f", fields });
    const { sessionId } = session!;
    assert.deepEqual(Object.entries(session!.fields).toSorted(), Object.entries(fields).toSorted());
    for (const name of names) {
      assert.equal((await client.getSessionField({ sessionId, field: name })).value, name.repeat(3));
    }
    const all = await client.getSessionFields({ sessionId });
    assert.deepEqual(Object.entries(all.fields).toSorted(), Object.entries(fields).toSorted());
  });

  test("reserved names, too many, too long", async () => {
    for (const name of ["user_id", "session_id", "version", "expire_time"]) {
      const { session } = await client.createHashSession({ userId: "reserved" });
      const { sessionId } = session!;
      const rejected = { code: status.INVALID_ARGUMENT, reason: "INVALID_REQUEST" };
      await assert.rejects(client.createHashSession({ userId: "f", fields: { [name]: "x" } }), rejected);
      await assert.rejects(client.setSessionFields({ sessionId, fields: { [name]: "x" } }), rejected);
      await assert.rejects(client.incrementSessionField({ sessionId, field: name, delta: 1n }), rejected);
    }
    const many = (n: number) => Object.fromEntries(Array.from({ length: n }, (_, i) => [`f${i}`, ""]));
    await assert.rejects(client.createHashSession({ userId: "f", fields: many(129) }), invalid("fields"));
    await assert.rejects(client.createHashSession({ userId: "f", fields: many(10_000) }), invalid("fields"));
    const { session } = await client.createHashSession({ userId: "f", fields: many(128) });
    const { sessionId } = session!;
    const full = { code: status.RESOURCE_EXHAUSTED, reason: "FIELD_LIMIT_REACHED" };
    await assert.rejects(client.setSessionFields({ sessionId, fields: { one: "more", f0: "lost?" } }), full);
    await assert.rejects(client.incrementSessionField({ sessionId, field: "one", delta: 1n }), full);
    assert.equal((await client.getSessionField({ sessionId, field: "f0" })).value, "", "a refused change wrote");
    await client.setSessionFields({ sessionId, fields: { one: "more" }, remove: ["f0"] });
  });

  test("increments at the edges of int64", async () => {
    const { session } = await client.createHashSession({
      userId: "n",
      fields: { word: "x", wide: "1" + "0".repeat(30) },
    });
    const { sessionId } = session!;
    const add = (field: string, delta: bigint) => client.incrementSessionField({ sessionId, field, delta });
    assert.equal((await add("max", INT64_MAX)).value, INT64_MAX);
    await assert.rejects(add("max", 1n), { code: status.FAILED_PRECONDITION, reason: "INTEGER_OVERFLOW" });
    assert.equal((await add("max", 0n)).value, INT64_MAX);
    assert.equal((await add("min", INT64_MIN)).value, INT64_MIN);
    await assert.rejects(add("min", -1n), { code: status.FAILED_PRECONDITION, reason: "INTEGER_OVERFLOW" });
    assert.equal((await add("odd", 2n ** 53n + 1n)).value, 2n ** 53n + 1n);
    for (const field of ["word", "wide"]) {
      await assert.rejects(add(field, 1n), { code: status.FAILED_PRECONDITION, reason: "NOT_AN_INTEGER" });
    }
  });
});

describe("timeouts, enums, versions, pages", { skip }, () => {
  test("timeouts out of range", async () => {
    const seconds = [-1n, 0n, 34_560_001n, 2n ** 53n, INT64_MAX, INT64_MIN];
    for (const field of ["idleTimeout", "absoluteTimeout"] as const) {
      for (const value of seconds) {
        const request = { userId: "t", [field]: { seconds: value, nanos: 0 } };
        await assert.rejects(client.createSession(request), { code: status.INVALID_ARGUMENT }, `${field} ${value}`);
      }
      await assert.rejects(client.createSession({ userId: "t", [field]: { seconds: 0n, nanos: 999_999_999 } }));
    }
    const edge = { seconds: 34_560_000n, nanos: 0 };
    const { session } = await client.createSession({ userId: "t", idleTimeout: edge, absoluteTimeout: edge });
    assert.equal(session!.absoluteExpireTime!.seconds - session!.createTime!.seconds, 34_560_000n);
    assert.deepEqual(session!.expireTime, session!.absoluteExpireTime);
    for (const text of ["NaNs", "Infinitys", "1e400s", "-1s", "9007199254740993s", "x"]) {
      const response = await fetch(`http://${authorities.httpAddresses[0]}/session.v1.SessionService/CreateSession`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ userId: "t", idleTimeout: text }),
      });
      assert.equal(response.status, 400, text);
      await response.body?.cancel();
    }
  });

  test("unknown enum values", async () => {
    await assert.rejects(client.createSession({ userId: "e", ipBinding: 99 as never }), invalid("ip_binding"));
    await assert.rejects(
      client.createSession({ userId: "e", limit: { maxSessions: 1, onExceed: 77 as never } }),
      invalid("limit.on_exceed"),
    );
    await assert.rejects(
      client.createSession({ userId: "e", limit: { maxSessions: 0 } }),
      invalid("limit.max_sessions"),
    );
  });

  test("expected_version at the edges", async () => {
    const { session } = await client.createSession({ userId: "v" });
    const { sessionId } = session!;
    await assert.rejects(client.updateSessionData({ sessionId, expectedVersion: -1n }), invalid("expected_version"));
    for (const expectedVersion of [2n, INT64_MAX, 2n ** 53n + 1n]) {
      const refused = { code: status.ABORTED, reason: "VERSION_MISMATCH" };
      await assert.rejects(client.updateSessionData({ sessionId, expectedVersion }), refused);
      await assert.rejects(client.updateSessionData({ sessionId, expectedVersion, merge: true }), refused);
    }
  });

  test("page tokens of another list, and page sizes", async () => {
    for (let i = 0; i < 3; i++) await client.createSession({ userId: "p" });
    const { nextPageToken } = await client.listUserSessions({ userId: "p", pageSize: 1 });
    await assert.rejects(client.listUserSessions({ userId: "q", pageToken: nextPageToken }), invalid("page_token"));
    await assert.rejects(client.listUserSessions({ userId: "p", pageToken: "garbage" }), invalid("page_token"));
    await assert.rejects(client.listUserSessions({ userId: "p", pageSize: -1 }), invalid("page_size"));
    await assert.rejects(client.listUserSessions({ userId: "p", pageSize: 1001 }), invalid("page_size"));
  });
});
