// Every failure on every wire: its code, its reason and its details, and that nothing else is revealed.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import pino from "pino";
import { ErrorReasonSchema } from "../../gen/session/v1/errors_pb.ts";
import { CreateHashSessionRequestSchema } from "../../gen/session/v1/hash_sessions_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { CreateSessionRequestSchema } from "../../gen/session/v1/simple_sessions_pb.ts";
import { SessionError, type ErrorReason } from "../../src/domain/errors.ts";
import type { Scope } from "../../src/domain/scope.ts";
import { toFailure } from "../../src/rpc/errors.ts";
import { createCallLog } from "../../src/ops/call_log.ts";
import { startHosts, wiresOf, WireError, type Hosts, type Wire } from "../helpers/rpc_hosts.ts";

const { createSession, createHashSession } = SessionService.method;
const SECRET = "sat1_c2VjcmV0";

let hosts: Hosts;
let wires: Wire[];

before(async () => {
  hosts = await startHosts({
    async createSession({ userId }) {
      if (userId === "bug") throw new TypeError(`cannot read ${SECRET}`);
      if (userId === "text") throw "a thrown text";
      if (userId === "surrogate")
        throw new SessionError("STORE_FULL", "bad \ud800 text 100% ✓", { retryAfterMs: 7_000 });
      if (userId === "fields") {
        const violations = [{ field: "data", description: "is wrong" }];
        throw new SessionError("INVALID_REQUEST", "data: is wrong", { violations });
      }
      throw new SessionError(userId as ErrorReason, "for the caller", { cause: new Error("for the log") });
    },
    async createHashSession() {
      return {};
    },
  });
  wires = wiresOf(hosts);
});

after(async () => {
  for (const wire of wires) wire.close();
  await hosts.close();
});

async function failureOf(wire: Wire, userId: string): Promise<WireError> {
  const request = toBinary(CreateSessionRequestSchema, create(CreateSessionRequestSchema, { userId }));
  const error = await wire.call(createSession, request).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof WireError, `${wire.name}: ${String(error)}`);
  return error;
}

/** Repeated here, since callers in every language depend on these pairs. */
const CODE_NAMES: Record<ErrorReason, string> = {
  INVALID_REQUEST: "INVALID_ARGUMENT",
  SESSION_NOT_FOUND: "NOT_FOUND",
  VERSION_MISMATCH: "ABORTED",
  SESSION_LIMIT_REACHED: "RESOURCE_EXHAUSTED",
  FIELD_LIMIT_REACHED: "RESOURCE_EXHAUSTED",
  STORE_FULL: "RESOURCE_EXHAUSTED",
  NOT_AN_INTEGER: "FAILED_PRECONDITION",
  INTEGER_OVERFLOW: "FAILED_PRECONDITION",
  REQUEST_ID_REUSED: "FAILED_PRECONDITION",
  REQUEST_ID_SPENT: "FAILED_PRECONDITION",
  AUTHENTICATED_IN_FUTURE: "FAILED_PRECONDITION",
  REVOKED_SINCE_LOGIN: "FAILED_PRECONDITION",
  CREATE_RATE_EXCEEDED: "RESOURCE_EXHAUSTED",
  ROTATED_CONCURRENTLY: "ABORTED",
  CREDENTIAL_INVALID: "UNAUTHENTICATED",
  SCOPE_MISSING: "PERMISSION_DENIED",
  METHOD_NOT_IMPLEMENTED: "UNIMPLEMENTED",
  NOT_REPLICATED: "UNAVAILABLE",
  STORE_UNAVAILABLE: "UNAVAILABLE",
  STORE_TIMEOUT: "UNAVAILABLE",
  STORE_OVERLOADED: "UNAVAILABLE",
  SHUTTING_DOWN: "UNAVAILABLE",
  DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED",
  CANCELLED: "CANCELLED",
  INTERNAL: "INTERNAL",
};

test("the contract's enum of reasons is the table, with the code at the beginning of each comment", () => {
  const proto = readFileSync(join(import.meta.dirname, "../../proto/session/v1/errors.proto"), "utf8");
  const documented: Record<string, string> = {};
  for (const [, comment, reason] of proto.matchAll(/((?:^ *\/\/.*\n)+) *ERROR_REASON_(\w+) = \d+;/gm)) {
    documented[reason!] = /^ *\/\/ ([A-Z_]+)\. /.exec(comment!)?.[1] ?? "none";
  }
  assert.deepEqual(documented, { ...CODE_NAMES, UNSPECIFIED: "none" });
  const names = ErrorReasonSchema.values.map(({ localName }) => localName);
  assert.deepEqual(names.toSorted(), Object.keys(documented).toSorted());
});

test("every pair of code and reason in the contract's comments is in the table", () => {
  const proto = readFileSync(join(import.meta.dirname, "../../proto/session/v1/session_service.proto"), "utf8");
  const pairs = [...proto.replaceAll(/\n *\/\/ */g, " ").matchAll(/([A-Z_]+) \/ ([A-Z_]+)/g)];
  assert.ok(pairs.length > 10);
  for (const [pair, code, reason] of pairs) {
    // A reason that the contract names before it is implemented is not in the table yet.
    if (reason! in CODE_NAMES) assert.equal(CODE_NAMES[reason as ErrorReason], code, pair);
  }
});

for (const [reason, code] of Object.entries(CODE_NAMES)) {
  test(`${reason} is ${code} on every wire`, async () => {
    for (const wire of wires) {
      const failure = await failureOf(wire, reason);
      assert.equal(failure.code, code, wire.name);
      assert.equal(failure.reason, reason, wire.name);
      assert.equal(failure.domain, "session-authority", wire.name);
      assert.equal(failure.message, reason === "INTERNAL" ? "internal error" : "for the caller", wire.name);
      assert.equal(failure.retryAfterMs !== undefined, code === "UNAVAILABLE", wire.name);
    }
  });
}

test("a bug is INTERNAL, reveals nothing, and is logged with its stack but without the token", async () => {
  for (const wire of wires) {
    hosts.log.length = 0;
    const failure = await failureOf(wire, "bug");
    assert.deepEqual([failure.code, failure.reason, failure.message], ["INTERNAL", "INTERNAL", "internal error"]);
    const entry = hosts.log.find(({ level }) => level === 50)!;
    assert.equal(entry["method"], "session.v1.SessionService/CreateSession");
    assert.match(String(entry["stack"]), /TypeError: cannot read \[token\]\n.*errors\.test\.ts/s);
    assert.doesNotMatch(JSON.stringify(hosts.log), new RegExp(SECRET));
  }
});

test("a thrown value that is not an Error is INTERNAL too", async () => {
  for (const wire of wires) assert.equal((await failureOf(wire, "text")).code, "INTERNAL", wire.name);
});

test("an ill-formed message is repaired, and a retry hint reaches the caller", async () => {
  for (const wire of wires) {
    const failure = await failureOf(wire, "surrogate");
    assert.equal(failure.message, "bad \ufffd text 100% ✓", wire.name);
    assert.ok(failure.retryAfterMs! >= 7_000 && failure.retryAfterMs! <= 14_000, wire.name);
  }
});

test("a handler's violations are in BadRequest", async () => {
  for (const wire of wires) assert.deepEqual((await failureOf(wire, "fields")).fields, ["data"], wire.name);
});

test("the rules of the proto name every bad field once, by its path", async () => {
  const request = create(CreateSessionRequestSchema, {
    userId: "x".repeat(257),
    requestId: "x".repeat(257),
    limit: { maxSessions: 0, onExceed: 77 as never },
  });
  const fields = ["user_id", "request_id", "limit.max_sessions", "limit.on_exceed"];
  for (const wire of wires) {
    await assert.rejects(
      wire.call(createSession, toBinary(CreateSessionRequestSchema, request)),
      (error: WireError) => {
        assert.deepEqual([error.code, error.reason], ["INVALID_ARGUMENT", "INVALID_REQUEST"], wire.name);
        assert.deepEqual(error.fields.toSorted(), fields.toSorted(), wire.name);
        return true;
      },
    );
  }
});

test("a request with thousands of violations gets a response that clients accept", async () => {
  const fields = Object.fromEntries(Array.from({ length: 2_000 }, (_, i) => [`${"k".repeat(60)}${i}`, ""]));
  fields["version"] = "x".repeat(9_000);
  const keys = Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`${i}`.padEnd(2_000, "ü"), ""]));
  for (const map of [fields, keys]) {
    const request = create(CreateHashSessionRequestSchema, { userId: "u", fields: map });
    for (const wire of wires) {
      const bytes = toBinary(CreateHashSessionRequestSchema, request);
      await assert.rejects(wire.call(createHashSession, bytes), (error: WireError) => {
        assert.equal(error.code, "INVALID_ARGUMENT", wire.name);
        assert.ok(error.fields.length > 0 && error.fields.join("").length < 4_000, wire.name);
        return true;
      });
    }
  }
});

describe("the call log", () => {
  const finished = (reason: ErrorReason, id = "x") => ({
    method: "M",
    durationMs: 1.23456,
    principal: { tenant: "acme", name: "orders", scopes: new Set<Scope>() },
    failure: toFailure(new SessionError(reason, `text ${id}`)),
  });

  function logOf(t: TestContext, sampleEvery: number) {
    const entries: Record<string, unknown>[] = [];
    const clock = { nowMs: 0 };
    t.mock.method(performance, "now", () => clock.nowMs);
    const logger = pino({ level: "trace" }, { write: (line: string) => void entries.push(JSON.parse(line)) });
    return { entries, clock, record: createCallLog(logger, sampleEvery) };
  }

  test("has how a call ended and for which principal, and nothing of its content", (t) => {
    const { entries, record } = logOf(t, 1);
    record(finished("SESSION_NOT_FOUND", "secret"));
    const { method, code, reason, durationMs, tenant, principal } = entries[0]!;
    assert.deepEqual(
      { method, code, reason, durationMs, tenant, principal },
      {
        method: "M",
        code: "NOT_FOUND",
        reason: "SESSION_NOT_FOUND",
        durationMs: 1.23,
        tenant: "acme",
        principal: "orders",
      },
    );
    assert.doesNotMatch(JSON.stringify(entries), /secret/);
  });

  test("UNAVAILABLE is logged once a second, with the count of the entries that were suppressed", (t) => {
    const { entries, clock, record } = logOf(t, 100);
    for (let call = 0; call < 5; call++) record(finished("STORE_UNAVAILABLE"));
    clock.nowMs = 1_001;
    record(finished("STORE_TIMEOUT"));
    assert.deepEqual(
      entries.map(({ level, reason, suppressed }) => ({ level, reason, suppressed })),
      [
        { level: 40, reason: "STORE_UNAVAILABLE", suppressed: 0 },
        { level: 40, reason: "STORE_TIMEOUT", suppressed: 4 },
      ],
    );
  });

  test("other calls are sampled, INTERNAL ones never", (t) => {
    const { entries, record } = logOf(t, 10);
    for (let call = 0; call < 20; call++) record(finished("SESSION_NOT_FOUND"));
    assert.equal(entries.length, 2);
    for (let call = 0; call < 20; call++) record({ ...finished("INTERNAL"), failure: undefined });
    assert.equal(entries.length, 4);
    for (let call = 0; call < 20; call++) record(finished("INTERNAL"));
    assert.equal(entries.length, 24);
  });
});
