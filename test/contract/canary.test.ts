// Canary secrets are sent wherever a caller can put one, and must appear nowhere: not in the log, an error, the audit trail, a
// tombstone, a key or a stored value. Ids and data may be in the store, but not in the log.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { toJsonString } from "@bufbuild/protobuf";
import { ListAuditEventsResponseSchema } from "../../gen/session/v1/audit_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import { CallError, type AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { assertAbsent, createRefusedCalls, storedBytes, type RefusedCalls } from "../helpers/canary_search.ts";

const skip = redisServerMissing();
const canary = (what: string) => `canary-${what}-${randomBytes(12).toString("hex")}`;
const API_KEYS = { all: canary("key"), reader: canary("reader"), wrong: canary("wrong") };
/** Does not look like a token, so that no pattern can redact it. */
const WORD = canary("word");
const FORGED = `sat1_${randomBytes(87).toString("base64url")}`;
const [DATA, FIELD, VALUE] = [canary("data"), canary("field"), canary("value")];
/** The fields in which a caller may send a secret, if only by mistake. */
const SECRET_FIELDS = ["token", "session_id", "except_session_id", "page_token", "resume_position", "watch_id"];
const METHODS = SessionService.methods;

let directory: string;
let authorities: Authorities;
let client: AuthorityClient;
let refused: RefusedCalls;
const log: string[] = [];
const failures: string[] = [];
const tokens: string[] = [];
const sessionIds: string[] = [];

before(async () => {
  if (skip) return;
  directory = await mkdtemp(join(tmpdir(), "sa-canary-"));
  const caller = (name: "all" | "reader", scopes: string[]) => {
    return { name, tenant: "acme", sha256: createHash("sha256").update(API_KEYS[name]).digest("hex"), scopes };
  };
  const keys = [caller("all", ["read", "write", "audit", "watch"]), caller("reader", ["read"])];
  await writeFile(join(directory, "callers.json"), JSON.stringify({ keys }));
  authorities = await startAuthorities({
    env: { SA_LOG_LEVEL: "trace", SA_LOG_SAMPLE: "1", SA_API_KEYS_FILE: join(directory, "callers.json") },
    log: { write: (line: string) => void log.push(line) },
    // Uncompressed, so that the files can be searched.
    redisArgs: ["--appendonly", "yes", "--aof-use-rdb-preamble", "no", "--rdbcompression", "no"],
  });
  client = authorities.clients[0]!;
  const { grpc, http } = authorities.servers[0]!.addresses;
  refused = createRefusedCalls({ grpc: grpc!, http: http! }, `session=${WORD}`, failures);
});
after(async () => {
  if (skip) return;
  refused.close();
  await authorities.close();
  await rm(directory, { recursive: true });
});

test("secrets appear nowhere", { skip }, async (t) => {
  await t.test("every method succeeds", everyMethodSucceeds);
  await t.test("every method fails, with a secret in every field that takes one", everyMethodFails);
  const trails = await Promise.all(
    ["u", "v"].map((userId) => client.listAuditEvents({ userId, pageSize: 1000 }, as(API_KEYS.all))),
  );
  await authorities.redis.command("SAVE");
  const stored = await storedBytes(authorities.redis.dataDir);
  await t.test("a store that breaks, hangs and dies", storeFails);

  const logged = Buffer.from(log.join(""));
  const places: Record<string, Buffer> = {
    "the log": logged,
    "an error": Buffer.from(failures.join("\n"), "latin1"),
    "the audit trail": Buffer.from(
      trails.map((trail) => toJsonString(ListAuditEventsResponseSchema, trail)).join("\n"),
    ),
    ...stored,
  };
  const secrets = tokens.map((token) => Buffer.from(token.slice(5), "base64url")).map((bytes) => bytes.subarray(23));
  const words = [...tokens, FORGED, WORD, ...Object.values(API_KEYS)].map((text) => Buffer.from(text));
  for (const [place, bytes] of Object.entries(places)) {
    await t.test(`no secret in ${place}`, () => {
      assert.ok(bytes.length > 1000, "there is too little to search");
      for (const secret of secrets) {
        assertAbsent(bytes, secret.subarray(0, 32), "the secret of a token");
        assertAbsent(bytes, secret.subarray(32), "the HMAC of a token");
      }
      for (const word of words) assertAbsent(bytes, word, String(word));
    });
  }
  await t.test("no id, data or field in the log", () => {
    for (const text of [...sessionIds, DATA, FIELD, VALUE]) assertAbsent(logged, Buffer.from(text), text);
  });
  await t.test("the search finds what must be there", () => {
    for (const { name } of METHODS) assert.ok(logged.includes(`SessionService/${name}"`), `${name} is not in the log`);
    assert.ok(logged.includes("call failed") && failures.length > 100);
    for (const bytes of Object.values(stored)) {
      for (const text of [sessionIds[0]!, DATA, FIELD, VALUE]) assert.ok(bytes.includes(text), `${text} is not stored`);
      const digests = secrets.map((secret) => createHash("sha256").update(secret.subarray(0, 32)).digest());
      assert.ok(
        digests.some((digest) => bytes.includes(digest)),
        "no digest is stored",
      );
    }
  });
});

const as = (key: string) => ({ metadata: { authorization: `Bearer ${key}`, cookie: `session=${WORD}` } });

async function everyMethodSucceeds(): Promise<void> {
  const by = as(API_KEYS.all);
  const keep = <T extends { session?: { sessionId: string }; token?: string }>(response: T): string => {
    sessionIds.push(response.session!.sessionId);
    if (response.token) tokens.push(response.token);
    return response.session!.sessionId;
  };
  const grace = { seconds: 60n, nanos: 0 };
  const data = { [DATA]: DATA };
  const sessionId = keep(await client.createSession({ userId: "u", data, requestId: "r", ipBinding: 2 }, by));
  await client.getSession({ sessionId, ipAddress: "10.0.0.1" }, by);
  await client.validateSession({ sessionId }, by);
  await client.updateSessionData({ sessionId, data, merge: true }, by);
  await client.listUserSessions({ userId: "u" }, by);
  const hash = keep(await client.createHashSession({ userId: "u", fields: { [FIELD]: VALUE } }, by));
  keep(await client.createHashSession({ userId: "who stays", fields: { [FIELD]: VALUE } }, by));
  await client.setSessionFields({ sessionId: hash, fields: { [FIELD]: VALUE, n: "1" } }, by);
  await client.incrementSessionField({ sessionId: hash, field: "n", delta: 1n }, by);
  await client.getSessionField({ sessionId: hash, field: FIELD }, by);
  await client.getSessionFields({ sessionId: hash }, by);
  keep(await client.createDeviceSession({ userId: "u", device: { deviceId: "d" }, data }, by));
  await client.getDeviceSession({ userId: "u", deviceId: "d" }, by);
  await client.listUserDevices({ userId: "u" }, by);
  await client.revokeDevice({ userId: "u", deviceId: "d" }, by);

  // Secrets in all their states: new, retried, rotated, within the grace, regenerated, reused, revoked.
  keep(await client.createSecureSession({ userId: "v", requestId: "s", data }, by));
  keep(await client.createSecureSession({ userId: "v", requestId: "s" }, by));
  keep(await client.rotateToken({ token: tokens.at(-1)! }, by));
  await client.validateToken({ token: tokens.at(-2)! }, by);
  await client.validateToken({ token: tokens.at(-1)! }, by);
  keep(await client.regenerateSession({ token: tokens.at(-1)!, grace }, by));
  await client.validateToken({ token: tokens.at(-2)! }, by);
  await client.validateToken({ token: tokens[0]! }, by);
  keep(await client.createSecureSession({ userId: "v" }, by));
  await client.revokeToken({ token: tokens.at(-1)! }, by);
  keep(await client.createSecureSession({ userId: "v" }, by));

  keep(await client.regenerateSession({ sessionId, grace }, by));
  await client.deleteSession({ sessionId: hash }, by);
  await client.invalidateSession({ sessionId: hash, actor: "somebody", note: "why" }, by);
  await client.batchValidate({ entries: tokens.map((value) => ({ handle: { case: "token", value } })) }, by);
  await client.deleteUserSessions({ userId: "u", exceptSessionId: sessionIds.at(-1)! }, by);
  await client.explainSession({ sessionId: hash }, by);
  await client.listAuditEvents({ userId: "u" }, by);
}

async function everyMethodFails(): Promise<void> {
  for (const method of METHODS) {
    const fields = method.input.fields.map((field) => field.name);
    const places = SECRET_FIELDS.filter((name) => fields.includes(name));
    for (const secret of [tokens.at(-1)!, tokens[0]!, FORGED, WORD, WORD.repeat(9), `${FORGED}=`]) {
      const valid = { user_id: "w", device_id: "d", field: "f", entries: [{ token: secret }] };
      for (const place of [...places, undefined]) {
        const members = Object.entries(valid).filter(([name]) => fields.includes(name));
        const request = { ...Object.fromEntries(members), ...(place && { [place]: secret }) };
        await refused.call(method, request, `Bearer ${API_KEYS.all}`);
      }
      // Malformed JSON at the secret, which a parser may quote in its error.
      await refused.post(method, `{"token": ${secret}`, `Bearer ${API_KEYS.all}`);
      for (const place of places) {
        await refused.post(method, JSON.stringify({ [place]: [secret] }), `Bearer ${API_KEYS.all}`);
        await refused.post(method, JSON.stringify({ [place]: { [place]: secret } }), `Bearer ${API_KEYS.all}`);
      }
    }
    for (const key of [
      `Bearer ${API_KEYS.reader}`,
      `Bearer ${API_KEYS.wrong}`,
      `Basic ${WORD}`,
      WORD,
      `Bearer ${FORGED}`,
    ]) {
      await refused.call(method, {}, key);
    }
  }
  // Its secret is never presented, so the session is alive when the store is searched.
  tokens.push((await client.createSecureSession({ userId: "who stays" }, as(API_KEYS.all))).token);
  const data = { [DATA]: "x".repeat(70_000), [VALUE]: NaN };
  await failed(client.createSession({ userId: "u", data }, as(API_KEYS.all)));
  await failed(client.createHashSession({ userId: "u", fields: { [FIELD]: VALUE.repeat(300) } }, as(API_KEYS.all)));
  await failed(client.updateSessionData({ sessionId: sessionIds[0]!, data, expectedVersion: 99n }, as(API_KEYS.all)));
}

async function storeFails(): Promise<void> {
  const { session, token } = await client.createSecureSession({ userId: "x" }, as(API_KEYS.all));
  const hash = await client.createHashSession({ userId: "x", fields: { [FIELD]: VALUE } }, as(API_KEYS.all));
  sessionIds.push(session!.sessionId, hash.session!.sessionId);
  tokens.push(token);
  const [recordKey] = await authorities.keysOfSession(session!.sessionId);
  const [, fieldsKey] = await authorities.keysOfSession(hash.session!.sessionId);
  const callAll = async () => {
    const options = { ...as(API_KEYS.all), timeoutMs: 300 };
    await failed(client.validateToken({ token }, options));
    await failed(client.rotateToken({ token }, options));
    await failed(client.getSession({ sessionId: hash.session!.sessionId }, options));
    await failed(client.setSessionFields({ sessionId: hash.session!.sessionId, fields: { [FIELD]: VALUE } }, options));
  };
  await authorities.redis.command("SET", recordKey!, `unreadable ${WORD}`);
  await authorities.redis.command("SET", fieldsKey!, VALUE);
  await callAll();
  await authorities.redis.command("DEL", recordKey!);
  await authorities.redis.command("RPUSH", recordKey!, WORD);
  await callAll();
  assert.ok(
    log.some((line) => line.includes('"INTERNAL"') && line.includes("stack")),
    "no stack was logged",
  );
  authorities.redis.pause();
  await callAll();
  authorities.redis.resume();
  await authorities.redis.kill();
  await callAll();
  assert.ok(
    log.some((line) => line.includes('"UNAVAILABLE"')),
    "no outage was logged",
  );
}

async function failed(call: Promise<unknown>): Promise<void> {
  await call.then(
    () => undefined,
    (error: unknown) => {
      assert.ok(error instanceof CallError);
      failures.push(`${error.message} ${JSON.stringify(error)}`);
    },
  );
}
