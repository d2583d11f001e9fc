// Random histories of simple and hash sessions: the service on a real store answers what the reference model answers.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { Verdict, type Session } from "../../gen/session/v1/session_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import { CallError, type AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { SessionsModel, type ModelSession, type Outcome } from "./sessions_model.ts";

const RUNS = Number(process.env["PROPERTY_RUNS"] ?? 2000);
const skip = redisServerMissing();

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

/** A run: the model, the ids handed out so far (dead ones too), and a prefix that keeps its users apart. */
type Run = { model: SessionsModel; ids: string[]; user: (n: number) => string };

/** One step: does the same to the model and the service, and compares. */
type Step = (run: Run) => Promise<void>;

async function outcomeOf<T>(call: Promise<T>): Promise<Outcome<T>> {
  try {
    return { value: await call };
  } catch (error) {
    if (error instanceof CallError && error.reason) return { error: error.reason };
    throw error;
  }
}

function assertSame(actual: Outcome<Session>, expected: Outcome<ModelSession>, withFields = true): void {
  if ("error" in expected || "error" in actual) return assert.deepEqual(actual, expected);
  const { value: session } = actual;
  assert.equal(session.sessionId, expected.value.id);
  assert.equal(session.userId, expected.value.userId);
  assert.equal(session.version, expected.value.version);
  assert.deepEqual(session.data, expected.value.data);
  if (withFields) assert.deepEqual(new Map(Object.entries(session.fields)), expected.value.fields);
}

const sessionOf = async (answer: Promise<{ session?: Session }>) => (await answer).session!;

// Names and values that break naive code: separators, special members, control characters, wide characters.
const name = fc.oneof(
  fc.constantFrom("a", "b", "n", "__proto__", "constructor", "toString", "x:y", "{tag}", "%00", "\u0000", "é\u{1F600}"),
  fc.string({ unit: "binary", minLength: 1, maxLength: 8 }),
);
const text = fc.oneof(
  fc.constantFrom("", "0", "41", "-7", "9223372036854775807", "007", "1.5"),
  fc.string({ unit: "binary" }),
);
const fields = fc.dictionary(name, text, { maxKeys: 5 });
const delta = fc.oneof(fc.bigInt({ min: -5n, max: 5n }), fc.constantFrom(2n ** 63n - 1n, -(2n ** 63n), 2n ** 53n + 1n));
const json = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 3 },
    fc.constant(null),
    fc.boolean(),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.string({ unit: "binary" }),
    fc.array(tie("value"), { maxLength: 3 }),
    fc.dictionary(name, tie("value"), { maxKeys: 3 }),
  ),
})).value;
const data = fc.option(fc.dictionary(name, json, { maxKeys: 4 }), { nil: undefined });
const which = fc.nat(5);
const version = fc.oneof(fc.constant(0), fc.constant(-1), fc.integer({ min: 1, max: 4 }));
const requestId = fc.oneof({ weight: 3, arbitrary: fc.constant("") }, fc.constantFrom("r1", "r2"));

const pick = (run: Run, n: number) => run.ids.at(n % Math.max(1, run.ids.length)) ?? "A".repeat(28);
/** 0: not checked; -1: the version that is right; else as given. */
const expectedVersion = (run: Run, id: string, v: number) =>
  v < 0 ? (run.model.live.get(id)?.version ?? 1n) : BigInt(v);

async function created(run: Run, kind: ModelSession["kind"], userId: string, request: object, requestIdValue: string) {
  const { data: sessionData, fields: sessionFields = {} } = request as {
    data?: Record<string, unknown>;
    fields?: Record<string, string>;
  };
  const call = kind === "simple" ? client.createSession : client.createHashSession;
  const actual = await outcomeOf(sessionOf(call({ userId, requestId: requestIdValue, ...request })));
  const id = "value" in actual ? actual.value.sessionId : "";
  const expected = run.model.create(id, userId, kind, sessionData, sessionFields, requestIdValue);
  assertSame(actual, expected);
  if (id !== "" && !run.ids.includes(id)) run.ids.push(id);
}

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ user: fc.nat(1), data, requestId }).map(
    (s): Step =>
      (run) =>
        created(run, "simple", run.user(s.user), { data: s.data }, s.requestId),
  ),
  fc.record({ user: fc.nat(1), fields, requestId }).map(
    (s): Step =>
      (run) =>
        created(run, "hash", run.user(s.user), { fields: s.fields }, s.requestId),
  ),
  which.map((n): Step => async (run) => {
    const id = pick(run, n);
    assertSame(await outcomeOf(sessionOf(client.getSession({ sessionId: id }))), run.model.get(id));
  }),
  which.map((n): Step => async (run) => {
    const id = pick(run, n);
    const { verdict, session } = await client.validateSession({ sessionId: id });
    const expected = run.model.get(id);
    assert.equal(verdict, "value" in expected ? Verdict.VALID : Verdict.INVALID);
    if ("value" in expected) assertSame({ value: session! }, expected, false);
    else assert.equal(session, undefined);
  }),
  fc.record({ n: which, data, merge: fc.boolean(), version }).map((s): Step => async (run) => {
    const id = pick(run, s.n);
    const expected = expectedVersion(run, id, s.version);
    const request = { sessionId: id, data: s.data as never, merge: s.merge, expectedVersion: expected };
    const actual = await outcomeOf(sessionOf(client.updateSessionData(request)));
    assertSame(actual, run.model.update(id, s.data, s.merge, expected));
  }),
  fc.record({ n: which, fields, remove: fc.array(name, { maxLength: 2 }), version }).map((s): Step => async (run) => {
    const id = pick(run, s.n);
    const expected = expectedVersion(run, id, s.version);
    const request = { sessionId: id, fields: s.fields, remove: s.remove, expectedVersion: expected };
    const actual = await outcomeOf(sessionOf(client.setSessionFields(request)));
    assertSame(actual, run.model.setFields(id, s.fields, s.remove, expected));
  }),
  fc.record({ n: which, field: name, delta }).map((s): Step => async (run) => {
    const id = pick(run, s.n);
    const call = client.incrementSessionField({ sessionId: id, field: s.field, delta: s.delta });
    const actual = await outcomeOf(call.then((answer) => answer.value));
    assert.deepEqual(actual, run.model.increment(id, s.field, s.delta));
  }),
  fc.record({ n: which, field: name }).map((s): Step => async (run) => {
    const id = pick(run, s.n);
    const actual = await outcomeOf(client.getSessionField({ sessionId: id, field: s.field }));
    const session = run.model.live.get(id);
    if (!session) assert.deepEqual(actual, { error: "SESSION_NOT_FOUND" });
    else if (session.kind !== "hash") assert.deepEqual(actual, { error: "NOT_A_HASH_SESSION" });
    else assert.equal("value" in actual && actual.value.value, session.fields.get(s.field));
  }),
  which.map((n): Step => async (run) => {
    const id = pick(run, n);
    assert.equal((await client.deleteSession({ sessionId: id })).deleted, run.model.end(id));
  }),
  which.map((n): Step => async (run) => {
    // The session's time runs out: written into the store, since no test waits for a clock.
    const id = pick(run, n);
    if (run.model.end(id)) await authorities.expireNow(id);
  }),
  fc.record({ user: fc.nat(1), except: fc.option(which, { nil: undefined }) }).map((s): Step => async (run) => {
    const exceptSessionId = s.except === undefined ? "" : pick(run, s.except);
    const userId = run.user(s.user);
    const { deletedCount } = await client.deleteUserSessions({ userId, exceptSessionId });
    assert.equal(deletedCount, run.model.endAllOf(userId, exceptSessionId));
  }),
  fc.record({ user: fc.nat(1), pageSize: fc.integer({ min: 1, max: 3 }) }).map((s): Step => async (run) => {
    const userId = run.user(s.user);
    const listed: Session[] = [];
    for (let pageToken = ""; ;) {
      const page = await client.listUserSessions({ userId, pageSize: s.pageSize, pageToken });
      listed.push(...page.sessions);
      pageToken = page.nextPageToken;
      if (pageToken === "") break;
    }
    const expected = run.model.of(userId).toSorted((x, y) => (x.id < y.id ? -1 : 1));
    assert.equal(listed.length, expected.length);
    expected.forEach((session, i) => assertSame({ value: listed[i]! }, { value: session }));
  }),
);

test(`${RUNS} random histories agree with the model`, { skip }, async () => {
  let runs = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 30, size: "max" }), async (steps) => {
      const prefix = `run-${runs++}`;
      const run: Run = { model: new SessionsModel(), ids: [], user: (n) => `${prefix}/user ${n}` };
      for (const take of steps) await take(run);
    }),
    { numRuns: RUNS },
  );
});
