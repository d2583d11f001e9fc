// A key with the scope audit or watch alone takes over nothing: whatever string it sees, no method accepts it as what opens a
// session, even of a caller that has the scopes read and write. But the strings lead back in ExplainSession and in every end.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { AuditEventType, SessionState } from "../../gen/session/v1/audit_pb.ts";
import { InvalidationReason, Verdict } from "../../gen/session/v1/session_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import type { AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { createWatchClient, type WatchStream } from "../helpers/watch_client.ts";

const skip = redisServerMissing();
const notFound = { reason: "SESSION_NOT_FOUND" };
const userId = "victim";
const KEYS = {
  backend: ["read", "write"],
  auditor: ["audit"],
  watcher: ["watch"],
  writer: ["write"],
  reader: ["read", "audit", "watch"],
};
const as = (name: keyof typeof KEYS | "foreign") => ({ metadata: { authorization: `Bearer key-of-${name}` } });

let directory: string;
let authorities: Authorities;
let client: AuthorityClient;
const watchers: ReturnType<typeof createWatchClient>[] = [];

before(async () => {
  if (skip) return;
  directory = await mkdtemp(join(tmpdir(), "sa-references-"));
  const key = (name: string, tenant: string, scopes: string[]) => {
    return { name, tenant, scopes, sha256: createHash("sha256").update(`key-of-${name}`).digest("hex") };
  };
  const keys = Object.entries(KEYS).map(([name, scopes]) => key(name, "acme", scopes));
  keys.push(key("foreign", "globex", ["read", "write", "audit", "watch"]));
  const SA_API_KEYS_FILE = join(directory, "callers.json");
  await writeFile(SA_API_KEYS_FILE, JSON.stringify({ keys }));
  authorities = await startAuthorities({ touchIntervalMs: 0, env: { SA_API_KEYS_FILE } });
  client = authorities.clients[0]!;
});
after(async () => {
  if (skip) return;
  for (const each of watchers) each.close();
  await authorities.assertStoreSound();
  await authorities.close();
  await rm(directory, { recursive: true });
});

async function watch(name: "watcher" | "reader", request = {}): Promise<WatchStream> {
  const watcher = createWatchClient(authorities.servers[0]!.addresses.grpc!, as(name).metadata);
  watchers.push(watcher);
  const stream = watcher.watch(request);
  await stream.opened();
  return stream;
}

const invalidationsOf = (stream: WatchStream) =>
  stream.record.events.flatMap(({ event }) => (event.case === "invalidation" ? [event.value] : []));

/** Every string in a value, and the parts of it that a separator delimits. */
function stringsIn(value: unknown): string[] {
  if (typeof value === "string") return [value, ...value.split(/[^A-Za-z0-9_-]/)];
  if (typeof value !== "object" || value === null) return [];
  return Object.values(value).flatMap(stringsIn);
}

/** Creates live sessions of every variant, changes each, and returns what opens them. */
async function liveSessions() {
  const by = as("backend");
  const simple = (await client.createSession({ userId }, by)).session!.sessionId;
  const hash = (await client.createHashSession({ userId, fields: { a: "1" } }, by)).session!.sessionId;
  const device = (await client.createDeviceSession({ userId, device: { deviceId: "phone" } }, by)).session!.sessionId;
  const { session, token } = await client.createSecureSession({ userId }, by);
  for (const sessionId of [simple, hash, device, session!.sessionId]) {
    await client.updateSessionData({ sessionId, data: { a: 1 } }, by);
  }
  const grace = { seconds: 60n, nanos: 0 };
  const former = (await client.createSession({ userId }, by)).session!.sessionId;
  const successor = (await client.regenerateSession({ sessionId: former, grace }, by)).session!.sessionId;
  return { byId: [simple, hash, device, former, successor], secure: session!.sessionId, token };
}

/** Tries a text as what opens a session, in every method that takes it. */
async function assertOpensNone(text: string): Promise<void> {
  const by = as("backend");
  const [sessionId, token] = [text, text];
  for (const attempt of [
    () => client.getSession({ sessionId }, by),
    () => client.updateSessionData({ sessionId, data: {} }, by),
    () => client.getSessionField({ sessionId, field: "a" }, by),
    () => client.getSessionFields({ sessionId }, by),
    () => client.setSessionFields({ sessionId, fields: { a: "2" } }, by),
    () => client.incrementSessionField({ sessionId, field: "n", delta: 1n }, by),
    () => client.regenerateSession({ sessionId }, by),
    () => client.regenerateSession({ token }, by),
    () => client.rotateToken({ token }, by),
  ]) {
    await assert.rejects(attempt(), notFound, `${text}: ${String(attempt)}`);
  }
  assert.equal((await client.validateSession({ sessionId }, by)).verdict, Verdict.INVALID);
  assert.equal((await client.validateToken({ token }, by)).verdict, Verdict.INVALID);
  const entries = ["sessionId" as const, "token" as const].map((handle) => ({ handle: { case: handle, value: text } }));
  const { results } = await client.batchValidate({ entries }, by);
  for (const { verdict } of results) assert.equal(verdict, Verdict.INVALID);
}

test("nothing that a key with audit or watch alone sees opens a session", { skip }, async () => {
  const streams = [await watch("watcher"), await watch("reader")];
  const { byId, secure } = await liveSessions();
  const resumed = await watch("watcher", { resumePosition: (await streams[0]!.opened()).position });
  for (const stream of [...streams, resumed]) await stream.checkpoint();

  const page = await client.listAuditEvents({ userId, pageSize: 1000 }, as("auditor"));
  const explained = await Promise.all(
    [...byId, secure].map((sessionId) => client.explainSession({ sessionId }, as("auditor"))),
  );
  const seen = new Set(stringsIn([page, explained, streams[0]!.record.events, resumed.record.events]));
  // An id of a secure session cannot be used: it is a public handle, which the caller may match.
  assert.ok(seen.has(secure));
  for (const id of byId) assert.ok(!seen.has(id), "an id that opens a session");
  const tried = [...seen].filter((text) => text !== secure && text !== "" && text.length <= 256);
  assert.ok(tried.some((text) => text.startsWith("ref_")));
  for (const text of tried) await assertOpensNone(text);

  // A caller with read sees the ids, in the same order.
  const [ofWatcher, ofReader] = streams.map((stream) => invalidationsOf(stream));
  assert.equal(ofWatcher!.length, ofReader!.length);
  assert.deepEqual(ofReader!.map(({ sessionId }) => sessionId).toSorted(), [...byId.slice(0, 4), secure].toSorted());
  assert.deepEqual(
    invalidationsOf(resumed).map(({ sessionId }) => sessionId),
    ofWatcher!.map(({ sessionId }) => sessionId),
  );
  const opened = await Promise.all(streams.map((stream) => stream.until((event) => event.case === "opened")));
  assert.deepEqual(
    opened.map(({ value }) => (value as { hasReferences: boolean }).hasReferences),
    [true, false],
  );
  const { events } = await client.listAuditEvents({ userId, pageSize: 1000 }, as("reader"));
  const idOf = new Map(events.map(({ eventId, sessionId }) => [eventId, sessionId]));
  const references = new Map(page.events.map(({ eventId, sessionId }) => [idOf.get(eventId)!, sessionId]));
  for (const id of [byId[0]!, byId[1]!, byId[2]!, byId[4]!]) assert.match(references.get(id)!, /^ref_/);
  // The same session has the same reference in the audit trail and in the watch.
  assert.ok(ofWatcher!.some(({ sessionId }) => sessionId === references.get(byId[0]!)));
  const regenerated = page.events.find(({ type }) => type === AuditEventType.REGENERATED)!;
  assert.equal(regenerated.sessionId, references.get(byId[4]!));
  assert.equal(regenerated.previousSessionId, references.get(byId[3]!));
});

test("a reference leads back in ExplainSession, in filters and in every end, within its tenant", { skip }, async () => {
  const create = async () => (await client.createSession({ userId: "led back" }, as("backend"))).session!.sessionId;
  const referenceOf = async () => {
    const { events } = await client.listAuditEvents({ userId: "led back", pageSize: 1 }, as("auditor"));
    return events[0]!.sessionId;
  };
  const [first, firstReference] = [await create(), await referenceOf()];
  const [second, secondReference] = [await create(), await referenceOf()];
  const stream = await watch("watcher", { sessionIds: [firstReference] });
  const alive = await client.explainSession({ sessionId: firstReference }, as("auditor"));
  assert.deepEqual([alive.state, alive.userId], [SessionState.ALIVE, "led back"]);
  const foreign = await client.explainSession({ sessionId: firstReference }, as("foreign"));
  assert.equal(foreign.state, SessionState.UNKNOWN);
  const request = { sessionId: firstReference };
  assert.equal((await client.deleteSession(request, as("foreign"))).deleted, false);
  assert.equal((await client.deleteSession({ ...request, userId: "x" }, as("writer"))).deleted, false);
  assert.equal((await client.deleteSession(request, as("writer"))).deleted, true);
  assert.equal((await client.deleteSession(request, as("writer"))).deleted, false);
  assert.equal((await client.invalidateSession({ sessionId: secondReference }, as("writer"))).deleted, true);
  const { DELETED, REVOKED } = InvalidationReason;
  assert.equal((await client.explainSession({ sessionId: first }, as("auditor"))).reason, DELETED);
  assert.equal((await client.explainSession({ sessionId: secondReference }, as("auditor"))).reason, REVOKED);
  assert.equal((await client.explainSession({ sessionId: second }, as("auditor"))).principal, "writer");
  await stream.checkpoint();
  assert.deepEqual(
    invalidationsOf(stream).map(({ sessionId }) => sessionId),
    [firstReference],
  );
});

test("an expired session keeps its reference, and a secure one its id", { skip }, async () => {
  const by = as("backend");
  const ids = [
    (await client.createSession({ userId: "expired" }, by)).session!.sessionId,
    (await client.createSecureSession({ userId: "expired" }, by)).session!.sessionId,
  ];
  for (const sessionId of ids) {
    await authorities.expireNow(sessionId);
    await client.explainSession({ sessionId }, as("auditor"));
  }
  const { events } = await client.listAuditEvents({ userId: "expired" }, as("auditor"));
  const expired = events.filter(({ type }) => type === AuditEventType.EXPIRED).map(({ sessionId }) => sessionId);
  const created = events.filter(({ type }) => type === AuditEventType.CREATED).map(({ sessionId }) => sessionId);
  assert.deepEqual(expired, created);
  assert.equal(created[0], ids[1]);
  assert.match(created[1]!, /^ref_/);
});
