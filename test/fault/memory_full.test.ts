// A store whose memory is full: users who are logged in stay so and can be logged out; only what needs memory is refused.

import assert from "node:assert/strict";
import { setMaxListeners } from "node:events";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { status } from "@grpc/grpc-js";
import pino from "pino";
import { InvalidationReason, IpBinding, Verdict, type Session } from "../../gen/session/v1/session_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { parseTokenKeys } from "../../src/auth/token_key_file.ts";
import { loadConfig } from "../../src/config/config.ts";
import type { CallContext } from "../../src/domain/call.ts";
import type { Scope } from "../../src/domain/scope.ts";
import { partitionOfSessionId } from "../../src/domain/session_id.ts";
import { verifyToken } from "../../src/domain/token.ts";
import { createLogger } from "../../src/ops/logger.ts";
import { startServer } from "../../src/server.ts";
import { createAuditStore } from "../../src/store/audit.ts";
import { createStoreConnection } from "../../src/store/connection/connection.ts";
import { parseStoreUrl } from "../../src/store/connection/store_url.ts";
import { createDeviceSessionStore } from "../../src/store/device_sessions.ts";
import { createHashSessionStore } from "../../src/store/hash_sessions.ts";
import { createScripts } from "../../src/store/scripts.ts";
import { createSecureSessionStore } from "../../src/store/secure_sessions.ts";
import { createSessionStore } from "../../src/store/simple_sessions.ts";
import { createSweepStore } from "../../src/store/sweep.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import type { AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { createWatchClient, type WatchClient } from "../helpers/watch_client.ts";

const skip = redisServerMissing();
const LOGIN_ADDRESS = "192.0.2.1";
const OTHER_ADDRESS = "192.0.2.2";
const DEVICE = "d";
const full = { code: status.RESOURCE_EXHAUSTED, reason: "STORE_FULL" };

/** A user with a session that its id opens, on a device and with fields, and with one that a token opens. */
type User = { readonly userId: string; readonly sessionId: string; readonly token: string; readonly secureId: string };
type MethodName = keyof typeof SessionService.method;

let authorities: Authorities;
let client: AuthorityClient;
let watcher: WatchClient;
const users = new Map<string, User>();
let fillers = 0;

async function createUser(userId: string, ipBinding: IpBinding = IpBinding.UNSPECIFIED): Promise<User> {
  const login = { userId, ipAddress: LOGIN_ADDRESS, ipBinding, data: { a: 1 } };
  const fields = { n: "1", text: "t" };
  const { session } = await client.createDeviceSession({ ...login, device: { deviceId: DEVICE }, fields });
  const secure = await client.createSecureSession({ ...login, fields });
  return { userId, sessionId: session!.sessionId, token: secure.token, secureId: secure.session!.sessionId };
}

/** Writes until the store refuses it. Ends of sessions make room, so this runs before each call. */
async function fill(): Promise<void> {
  // Smaller values fill what larger ones leave.
  for (const bytes of [65_536, 1024, 16]) {
    for (;;) {
      try {
        await authorities.control.set(`filler:${fillers++}`, "x".repeat(bytes), { EX: 3600 });
      } catch (error) {
        assert.match(String(error), /^(Simple)?Error: OOM |OOM command not allowed/);
        break;
      }
    }
  }
}

before(async () => {
  if (skip) return;
  // Every access slides.
  authorities = await startAuthorities({ env: { SA_TOUCH_INTERVAL: "0" } });
  client = authorities.clients[0]!;
  watcher = createWatchClient(authorities.servers[0]!.addresses.grpc!);
  for (const name of [...Object.keys(METHODS), "touched", "batch", "no flags", "no flags, ended"]) {
    users.set(name, await createUser(`user of ${name}`));
  }
  users.set("ends", await createUser("user of ends", IpBinding.INVALIDATE));
  users.set("warns", await createUser("user of warns", IpBinding.WARN));
  const used = /used_memory:(\d+)/.exec(await authorities.control.info("memory"))![1];
  await authorities.control.configSet("maxmemory", String(Number(used) + 2_000_000));
});
after(async () => {
  if (skip) return;
  watcher.close();
  await authorities.assertStoreSound();
  await authorities.close();
});

const isAlive = async ({ sessionId, token }: User) => {
  const verdicts = await Promise.all([client.validateSession({ sessionId }), client.validateToken({ token })]);
  return verdicts.map(({ verdict }) => verdict === Verdict.VALID);
};

/** What each method does while the memory is full: it works and resolves, or is refused. */
const METHODS: Readonly<Record<MethodName, { refused?: true; call(user: User): Promise<unknown> }>> = {
  createSession: { refused: true, call: ({ userId }) => client.createSession({ userId }) },
  createHashSession: { refused: true, call: ({ userId }) => client.createHashSession({ userId, fields: { a: "1" } }) },
  createSecureSession: { refused: true, call: ({ userId }) => client.createSecureSession({ userId }) },
  createDeviceSession: {
    refused: true,
    call: ({ userId }) => client.createDeviceSession({ userId, device: { deviceId: "other" } }),
  },
  updateSessionData: {
    refused: true,
    call: ({ sessionId }) => client.updateSessionData({ sessionId, data: { b: 2 } }),
  },
  setSessionFields: {
    refused: true,
    call: ({ sessionId }) => client.setSessionFields({ sessionId, fields: { b: "2" } }),
  },
  incrementSessionField: {
    refused: true,
    call: ({ sessionId }) => client.incrementSessionField({ sessionId, field: "n", delta: 1n }),
  },
  rotateToken: { refused: true, call: ({ token }) => client.rotateToken({ token }) },
  regenerateSession: { refused: true, call: ({ sessionId }) => client.regenerateSession({ sessionId }) },
  updateSession: {
    refused: true,
    call: ({ sessionId }) =>
      client.updateSession({ sessionId, updateMask: { paths: ["labels"] }, labels: { tier: "gold" } }),
  },
  recordAuthentication: {
    refused: true,
    call: ({ sessionId }) => client.recordAuthentication({ sessionId, authentication: { level: 2 } }),
  },

  getSession: {
    call: async ({ sessionId }) => assertTouched((await client.getSession({ sessionId })).session, sessionId),
  },
  validateSession: {
    call: async ({ sessionId }) => assertValid(await client.validateSession({ sessionId, includeFields: true })),
  },
  getSessionField: {
    call: async ({ sessionId }) => {
      assert.equal((await client.getSessionField({ sessionId, field: "text" })).value, "t");
    },
  },
  getSessionFields: {
    call: async ({ sessionId }) => {
      assert.deepEqual((await client.getSessionFields({ sessionId })).fields, { n: "1", text: "t" });
    },
  },
  getDeviceSession: {
    call: async ({ userId, sessionId }) => {
      assertTouched((await client.getDeviceSession({ userId, deviceId: DEVICE })).session, sessionId);
    },
  },
  validateToken: {
    call: async ({ token, secureId }) => {
      for (const includeFields of [false, true]) {
        const response = await client.validateToken({ token, includeFields });
        assertValid(response);
        assertTouched(response.session, secureId);
      }
    },
  },
  batchValidate: {
    call: async ({ token, sessionId }) => {
      const entries = [entryOf("token", token), entryOf("token", "forged"), entryOf("sessionId", sessionId)];
      const { results } = await client.batchValidate({ entries });
      const verdicts = results.map(({ verdict }) => verdict);
      assert.deepEqual(verdicts, [Verdict.VALID, Verdict.INVALID, Verdict.VALID]);
    },
  },
  validateStream: {
    call: async ({ token }) => {
      const baseUrl = `http://${authorities.servers[0]!.addresses.grpc!}`;
      const connect = createClient(SessionService, createGrpcTransport({ baseUrl }));
      async function* requests() {
        yield { entries: [entryOf("token", token)] };
      }
      for await (const { results } of connect.validateStream(requests())) return assertValid(results[0]!);
      return assert.fail("no response");
    },
  },
  listUserSessions: {
    call: async ({ userId }) => assert.equal((await client.listUserSessions({ userId })).sessions.length, 2),
  },
  listUserDevices: {
    call: async ({ userId }) => assert.equal((await client.listUserDevices({ userId })).sessions.length, 1),
  },
  listAuditEvents: {
    call: async ({ userId }) => assert.equal((await client.listAuditEvents({ userId })).events.length, 2),
  },
  explainSession: {
    call: async ({ sessionId, userId }) => assert.equal((await client.explainSession({ sessionId })).userId, userId),
  },
  getServerTime: { call: ({ userId }) => client.getServerTime({ userId }) },
  listSessions: { call: async () => assert.ok((await client.listSessions({})).sessions.length > 2) },
  countSessions: { call: async () => assert.ok((await client.countSessions({})).tenants[0]!.sessionCount > 2n) },
  listTopUsers: { call: async () => assert.ok((await client.listTopUsers({})).users.length > 2) },
  watchInvalidations: {
    call: async () => {
      const baseUrl = `http://${authorities.servers[0]!.addresses.grpc!}`;
      const connect = createClient(SessionService, createGrpcTransport({ baseUrl }));
      for await (const { event } of connect.watchInvalidations({})) return assert.equal(event.case, "opened");
      return assert.fail("no response");
    },
  },
  watchWithLease: { call: async () => void (await watcher.watch().checkpoint()) },
  deleteSession: {
    call: async (user) => {
      assert.equal((await client.deleteSession({ sessionId: user.sessionId })).deleted, true);
      assert.deepEqual(await isAlive(user), [false, true]);
    },
  },
  deleteUserSessions: {
    call: async (user) => {
      const { userId, sessionId: exceptSessionId } = user;
      assert.equal((await client.deleteUserSessions({ userId, exceptSessionId })).deletedCount, 1);
      assert.deepEqual(await isAlive(user), [true, false]);
      assert.equal((await client.deleteUserSessions({ userId })).deletedCount, 1);
      assert.equal((await client.deleteUserSessions({ userId })).deletedCount, 0);
    },
  },
  revokeDevice: {
    call: async (user) => {
      assert.equal((await client.revokeDevice({ userId: user.userId, deviceId: DEVICE })).deleted, true);
      assert.deepEqual(await isAlive(user), [false, true]);
    },
  },
  revokeToken: {
    call: async (user) => {
      assert.equal((await client.revokeToken({ token: user.token })).deleted, true);
      assert.deepEqual(await isAlive(user), [true, false]);
    },
  },
  invalidateSession: {
    call: async (user) => {
      await client.invalidateSession({ sessionId: user.sessionId });
      assert.deepEqual(await isAlive(user), [false, true]);
    },
  },
  endSessions: {
    call: async (user) => {
      const progress = await client.endSessions({ filter: { userIds: [user.userId] } });
      assert.equal(progress.endedCount, 2n);
      assert.deepEqual(await isAlive(user), [false, false]);
    },
  },
};

function entryOf(kind: "sessionId" | "token", value: string) {
  return { handle: { case: kind, value }, touch: true } as const;
}

function assertValid({ verdict }: { readonly verdict: Verdict }): void {
  assert.equal(verdict, Verdict.VALID);
}

/** Asserts that the response is about this session, which the call has slid. */
function assertTouched(session: Session | undefined, sessionId: string): void {
  assert.equal(session!.sessionId, sessionId);
  const [createdMs, accessedMs] = [session!.createTime!, session!.lastAccessTime!].map(timestampMs);
  assert.ok(accessedMs! > createdMs!, "the access has not slid the idle timeout");
}

describe("with full memory", { skip }, () => {
  for (const [name, { refused, call }] of Object.entries(METHODS)) {
    test(`${name} ${refused ? "is refused" : "works"}`, async () => {
      const user = users.get(name)!;
      await fill();
      if (refused) {
        await assert.rejects(call(user), full);
        assert.deepEqual(await isAlive(user), [true, true]);
      } else {
        await call(user);
      }
    });
  }

  test("an address mismatch ends the session, or is reported", async () => {
    const [ends, warns] = [users.get("ends")!, users.get("warns")!];
    const ipAddress = OTHER_ADDRESS;
    await fill();
    for (let i = 0; i < 2; i++) {
      assert.equal((await client.getSession({ sessionId: warns.sessionId, ipAddress })).ipMismatch, true);
      assert.equal((await client.validateToken({ token: warns.token, ipAddress })).ipMismatch, true);
    }
    assert.equal((await client.validateToken({ token: ends.token, ipAddress })).verdict, Verdict.INVALID);
    await fill();
    await assert.rejects(client.getSession({ sessionId: ends.sessionId, ipAddress }), { reason: "SESSION_NOT_FOUND" });
    assert.deepEqual(await isAlive(ends), [false, false]);
  });

  test("an instance can start, and serves watchers", async () => {
    await fill();
    const config = loadConfig({
      ...{ SA_STORE_URL: authorities.redis.url, SA_DATA_DIR: authorities.redis.dataDir, SA_LOG_LEVEL: "fatal" },
      ...{ SA_GRPC_LISTEN: "127.0.0.1:0", SA_HTTP_LISTEN: "127.0.0.1:0" },
    });
    const server = await startServer(config, createLogger(config));
    const second = createWatchClient(server.addresses.grpc!);
    try {
      await second.watch().checkpoint();
    } finally {
      second.close();
      await server.close();
    }
  });

  test("the sweep reports sessions that a timeout has ended", async () => {
    const { sessionId } = users.get("touched")!;
    await authorities.expireNow(sessionId);
    await fill();
    assert.equal((await client.explainSession({ sessionId })).reason, InvalidationReason.EXPIRED);
  });
});

describe("with full memory, on a store that takes no flags of scripts", { skip }, () => {
  const principal = { tenant: "default", name: "anonymous", scopes: new Set<Scope>() };
  const { signal } = new AbortController();
  setMaxListeners(0, signal);
  const callOf = (): CallContext => ({ deadlineMs: performance.now() + 5000, signal, principal });

  test("reads, accesses and ends work", async () => {
    const config = loadConfig({ SA_DATA_DIR: authorities.redis.dataDir, SA_TOUCH_INTERVAL: "0" });
    const connection = createStoreConnection({
      url: parseStoreUrl(authorities.redis.url).url!,
      log: pino({ level: "silent" }),
    });
    await connection.whenReady(callOf());
    try {
      const store = { connection, scripts: createScripts({ connection, shebang: false }), settings: config };
      const sessions = createSessionStore(store);
      const keys = parseTokenKeys(readFileSync(config.tokenKeysFile, "utf8"));
      const [alive, ended] = [users.get("no flags")!, users.get("no flags, ended")!];
      const { sessionId, secureId, userId } = alive;
      const secretDigest = verifyToken(keys, principal.tenant, alive.token)!.digest;
      await fill();

      const stored = await Promise.all([
        sessions.get({ sessionId }, true, callOf()),
        sessions.get({ sessionId: secureId, secretDigest }, true, callOf()),
        createDeviceSessionStore(store).get(userId, DEVICE, true, callOf()),
      ]);
      assert.deepEqual(
        stored.map(({ record }) => record.sessionId),
        [sessionId, secureId, sessionId],
      );
      for (const { record } of stored) assert.ok(record.lastAccessedMs > record.createdMs, "it has not slid");
      assert.equal((await createHashSessionStore(store).get(sessionId, [], true, callOf())).size, 2);
      const options = { which: "all", order: "newest", after: undefined, pageSize: 10 } as const;
      assert.equal((await sessions.listOfUser(userId, options, callOf())).sessions.length, 2);
      assert.equal((await createAuditStore(store).explain(sessionId, callOf())).state, "alive");
      await assert.rejects(sessions.updateData({ sessionId, userId: "" }, Buffer.alloc(0), 0n, true, callOf()), {
        reason: "STORE_FULL",
      });

      const justification = { actor: "", note: "" };
      const { digest } = verifyToken(keys, principal.tenant, ended.token)!;
      assert.equal(await createSecureSessionStore(store).revoke(ended.secureId, digest, justification, callOf()), true);
      for (const [except, count] of [
        [ended.sessionId, 0],
        ["", 1],
        ["", 0],
      ] as const) {
        await fill();
        assert.equal(await sessions.removeAllOfUser(ended.userId, except, justification, callOf()), count);
      }
      const swept = users.get("batch")!;
      await authorities.expireNow(swept.sessionId);
      await fill();
      const sweep = createSweepStore(store);
      const partition = partitionOfSessionId(swept.sessionId)!;
      // The instance of the other tests sweeps as well.
      await sweep.expire(partition, 100, callOf());
      assert.equal((await createAuditStore(store).explain(swept.sessionId, callOf())).state, "ended");
      assert.deepEqual(await isAlive(ended), [false, false]);
      assert.deepEqual(await isAlive(alive), [true, true]);
    } finally {
      await connection.close();
    }
  });
});

test("with memory again, everything works", { skip }, async () => {
  await authorities.control.configSet("maxmemory", "0");
  for (let i = 0; i < fillers; i += 1000) {
    await authorities.control.del(Array.from({ length: Math.min(1000, fillers - i) }, (_, n) => `filler:${i + n}`));
  }
  await client.createSession({ userId: "six" });
  const { userId } = users.get("revokeDevice")!;
  assert.deepEqual(await authorities.auditEvents(userId), ["created", "created", "device_revoked"]);
});
