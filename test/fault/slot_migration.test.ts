// A slot that a cluster moves from one node to another, held in the middle of the move: each call about its users does all or
// nothing, and says that the store is out of reach; validations go on; other slots are not affected.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { durationFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { InvalidationReason, Verdict } from "../../gen/session/v1/session_pb.ts";
import { loadConfig } from "../../src/config/config.ts";
import { ownerOf, partitionOfOwner } from "../../src/domain/owner.ts";
import { createLogger } from "../../src/ops/logger.ts";
import { startServer, type RunningServer } from "../../src/server.ts";
import { slotOf } from "../../src/store/connection/slots.ts";
import { PARTITION_TAGS } from "../../src/store/partition_tags.ts";
import { CallError, createAuthorityClient, type AuthorityClient } from "../helpers/grpc_client.ts";
import { countLostTime } from "../helpers/lost_time.ts";
import { beginSlotMove, startRedisCluster, type RedisCluster, type SlotMove } from "../helpers/redis_cluster.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { createWatchClient, type WatchClient, type WatchStream } from "../helpers/watch_client.ts";

const skip = redisServerMissing();
const DEVICE = "d";

let cluster: RedisCluster;
let dataDir: string;
let server: RunningServer;
let client: AuthorityClient;
let watcher: WatchClient;

before(async () => {
  if (skip) return;
  cluster = await startRedisCluster();
  dataDir = await mkdtemp(join(tmpdir(), "sa-migration-"));
  const config = loadConfig({
    ...{ SA_STORE_URL: cluster.url, SA_DATA_DIR: dataDir, SA_LOG_LEVEL: "fatal", SA_TOUCH_INTERVAL: "0" },
    ...{ SA_GRPC_LISTEN: "127.0.0.1:0", SA_HTTP_LISTEN: "127.0.0.1:0" },
  });
  server = await startServer(config, createLogger(config));
  client = createAuthorityClient(server.addresses.grpc!);
  watcher = createWatchClient(server.addresses.grpc!);
});
after(async () => {
  if (skip) return;
  client.close();
  watcher.close();
  await server.close();
  await cluster.stop();
  await rm(dataDir, { recursive: true });
});

type User = {
  readonly userId: string;
  readonly slot: number;
  /** On a device and with fields. */
  readonly sessionId: string;
  readonly hashId: string;
  readonly token: string;
  readonly secureId: string;
};

function slotOfUser(userId: string): number {
  return slotOf(`{${PARTITION_TAGS[partitionOfOwner(ownerOf("default", userId))]}}`);
}

async function createUser(userId: string): Promise<User> {
  const fields = { n: "1" };
  const { session } = await client.createDeviceSession({
    userId,
    device: { deviceId: DEVICE },
    fields,
    data: { a: 1 },
  });
  const hash = await client.createHashSession({ userId, fields });
  const { token, session: secure } = await client.createSecureSession({ userId });
  return {
    ...{ userId, slot: slotOfUser(userId), sessionId: session!.sessionId, hashId: hash.session!.sessionId },
    ...{ token, secureId: secure!.sessionId },
  };
}

/** The calls that change something, each as it is made for a user. */
const CHANGES: Readonly<Record<string, (user: User) => Promise<unknown>>> = {
  "DeleteUserSessions but one": ({ userId, hashId }) => client.deleteUserSessions({ userId, exceptSessionId: hashId }),
  DeleteUserSessions: ({ userId }) => client.deleteUserSessions({ userId }),
  EndSessions: ({ userId }) => client.endSessions({ filter: { userIds: [userId] } }),
  CreateSession: ({ userId }) => client.createSession({ userId }),
  CreateHashSession: ({ userId }) => client.createHashSession({ userId, fields: { a: "1" } }),
  CreateSecureSession: ({ userId }) => client.createSecureSession({ userId, requestId: "r" }),
  CreateDeviceSession: ({ userId }) => client.createDeviceSession({ userId, device: { deviceId: DEVICE } }),
  RotateToken: ({ token }) => client.rotateToken({ token }),
  RegenerateSession: ({ sessionId }) => client.regenerateSession({ sessionId, grace: durationFromMs(10_000) }),
  DeleteSession: ({ sessionId }) => client.deleteSession({ sessionId }),
  InvalidateSession: ({ sessionId }) => client.invalidateSession({ sessionId }),
  RevokeDevice: ({ userId }) => client.revokeDevice({ userId, deviceId: DEVICE }),
  RevokeToken: ({ token }) => client.revokeToken({ token }),
  UpdateSessionData: ({ sessionId }) => client.updateSessionData({ sessionId, data: { b: 2 } }),
  SetSessionFields: ({ sessionId }) => client.setSessionFields({ sessionId, fields: { b: "2" } }),
  IncrementSessionField: ({ sessionId }) => client.incrementSessionField({ sessionId, field: "n", delta: 1n }),
  UpdateSession: ({ sessionId }) =>
    client.updateSession({ sessionId, updateMask: { paths: ["labels"] }, labels: { tier: "gold" } }),
};
/** Reads of several keys: what is on the other node must not be taken for gone. */
const READS: typeof CHANGES = {
  GetSession: ({ sessionId }) => client.getSession({ sessionId }),
  GetSessionFields: ({ sessionId }) => client.getSessionFields({ sessionId }),
  GetDeviceSession: ({ userId }) => client.getDeviceSession({ userId, deviceId: DEVICE }),
  ListUserSessions: ({ userId }) => client.listUserSessions({ userId }),
  ListUserDevices: ({ userId }) => client.listUserDevices({ userId }),
  ListSessions: () => client.listSessions({}),
  ListTopUsers: () => client.listTopUsers({}),
  ExplainSession: ({ sessionId }) => client.explainSession({ sessionId }),
};

async function assertUnavailable(name: string, call: Promise<unknown>): Promise<void> {
  const error = await call.then(
    () => assert.fail(`${name} succeeded`),
    (failure: CallError) => failure,
  );
  assert.deepEqual([name, error.code, error.retryInfo], [name, status.UNAVAILABLE, true], String(error));
}

/** Asserts that no change has any effect, and that validations go on. */
async function assertAllOrNothing(user: User, move: SlotMove): Promise<void> {
  const content = await move.content();
  for (const [name, call] of Object.entries({ ...CHANGES, ...READS })) {
    await assertUnavailable(name, call(user));
    assert.deepEqual(await move.content(), content, `${name} has changed something`);
  }
  const { sessionId, token } = user;
  assert.equal((await client.validateSession({ sessionId })).verdict, Verdict.VALID);
  // A slide is due, and left out.
  assert.equal((await client.validateToken({ token })).verdict, Verdict.VALID);
  const entries = [{ handle: { case: "token", value: token } as const, touch: true }];
  assert.equal((await client.batchValidate({ entries })).results[0]!.verdict, Verdict.VALID);
  assert.deepEqual(await move.content(), content);
}

/** Asserts that the watcher receives the end of each of these sessions. */
async function assertEndsReceived(stream: WatchStream, sessionIds: readonly string[]): Promise<void> {
  for (const sessionId of sessionIds) {
    await stream.until(
      ({ case: kind, value }) =>
        kind === "invalidation" && value.sessionId === sessionId && value.reason === InvalidationReason.USER_REVOKED,
      15_000,
    );
  }
}

/** Which keys have moved: none, all, those of the user, those of the sessions, and some by chance. */
const PLACEMENTS: Readonly<Record<string, (key: string) => boolean>> = {
  "no key has moved": () => false,
  "all keys have moved": () => true,
  "the user's keys have moved": (key) => /^sa:\{\w+\}:[a-r]+:default:/.test(key),
  "the sessions' keys have moved": (key) => /^sa:\{\w+\}:[sf]:/.test(key),
  "the partition's keys have moved": (key) => /^sa:\{\w+\}:(live|log|tail|meta|tenants)$/.test(key),
  "some keys have moved": () => Math.random() < 0.5,
  "some other keys have moved": () => Math.random() < 0.5,
};

describe("a slot in the middle of a move", { skip }, () => {
  for (const [placement, isMoved] of Object.entries(PLACEMENTS)) {
    test(`${placement}: all or nothing, and afterwards everything`, async () => {
      const userId = `moving: ${placement}`;
      await createUser(userId);
      // From now on, every key exists that DeleteUserSessions declares, so the store lets its script begin.
      await client.deleteUserSessions({ userId });
      const user = await createUser(userId);
      const stream = watcher.watch({ userIds: [userId] });
      await stream.opened();
      const move = await beginSlotMove(cluster, user.slot);
      try {
        await move.moveKeys(isMoved);
        await assertAllOrNothing(user, move);
      } finally {
        await move.finish();
      }
      const { sessionId, hashId, secureId } = user;
      const ended = await untilAvailable(() => client.deleteUserSessions({ userId, exceptSessionId: hashId }));
      assert.equal(ended.deletedCount, 2);
      assert.equal((await client.deleteUserSessions({ userId })).deletedCount, 1);
      await assertEndsReceived(stream, [sessionId, secureId, hashId]);
      assert.deepEqual((await client.listUserSessions({ userId })).sessions, []);
      stream.cancel();
    });
  }

  test("the ends of sessions in other slots are reported in time", async () => {
    // In the first slot of its node, whose key the fence takes.
    const userId = Array.from({ length: 10_000 }, (_, i) => `held ${i}`).find(
      (id) => partitionOfOwner(ownerOf("default", id)) === 0,
    )!;
    const user = await createUser(userId);
    const move = await beginSlotMove(cluster, user.slot);
    try {
      await move.moveKeys(() => Math.random() < 0.5);
      const stream = watcher.watch();
      await stream.opened();
      const lostMs = countLostTime();
      const sessions = await Promise.all(
        Array.from({ length: 30 }, async (_, n) => {
          const userId = Array.from({ length: 1000 }, (_each, i) => `short ${n} ${i}`).find(
            (id) => slotOfUser(id) !== user.slot,
          )!;
          return (await client.createSession({ userId, idleTimeout: durationFromMs(1000) })).session!;
        }),
      );
      const lateMs = await Promise.all(
        sessions.map(async ({ sessionId, expireTime }) => {
          const event = await stream.until(
            ({ case: kind, value }) =>
              kind === "invalidation" && value.sessionId === sessionId && value.reason === InvalidationReason.EXPIRED,
            30_000,
          );
          assert.equal(event.case, "invalidation");
          return event.case === "invalidation" ? timestampMs(event.value.time!) - timestampMs(expireTime!) : Infinity;
        }),
      );
      const late = Math.max(...lateMs);
      assert.ok(late <= 5000 + lostMs(), `reported after ${late} ms`);
      stream.cancel();
    } finally {
      await move.finish();
    }
  });
});

/** Calls again while the service has not learned yet that the slot has moved. */
async function untilAvailable<Result>(call: () => Promise<Result>): Promise<Result> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await call();
    } catch (error) {
      if (attempt >= 50 || !(error instanceof CallError) || error.code !== status.UNAVAILABLE) throw error;
      await new Promise((resolve) => setTimeout(resolve, error.retryAfterMs ?? 100));
    }
  }
}
