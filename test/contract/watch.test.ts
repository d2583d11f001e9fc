// One watch stream: its first message, filters, renewals, slow readers, a store that hangs, and the barrier.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import {
  InvalidationKind,
  WatchResetCause,
  type Invalidation,
  type WatchOpened,
} from "../../gen/session/v1/watch_pb.ts";
import { InvalidationReason, OnExceed, RevocationReason, Verdict } from "../../gen/session/v1/session_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import type { AuthorityClient, CallError } from "../helpers/grpc_client.ts";
import { race } from "../helpers/races.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { createWatchClient, type WatchClient, type WatchRequest, type WatchStream } from "../helpers/watch_client.ts";

const skip = redisServerMissing();
const LEASE_MS = 3000;
const R = InvalidationReason;
/** Stands for a change in lists of reasons. */
const CHANGED = "changed";

let authorities: Authorities;
let client: AuthorityClient;
const opened: WatchClient[] = [];

before(async () => {
  if (skip) return;
  authorities = await startAuthorities({ instances: 2, touchIntervalMs: 0 });
  client = authorities.clients[0]!;
});
after(async () => {
  for (const each of opened) each.close();
  if (!skip) await authorities.close();
});

async function watch(request: WatchRequest = {}, instance = 0): Promise<WatchStream> {
  const watchClient = createWatchClient(authorities.servers[instance]!.addresses.grpc!);
  opened.push(watchClient);
  const stream = watchClient.watch(request);
  await stream.opened();
  return stream;
}

function invalidationsOf(stream: WatchStream) {
  return stream.record.events.flatMap(({ event }) => (event.case === "invalidation" ? [event.value] : []));
}

function reasonOf({ kind, reason }: Invalidation): InvalidationReason | typeof CHANGED {
  return kind === InvalidationKind.CHANGED ? CHANGED : reason;
}

async function createdBy(userId: string): Promise<string> {
  return (await client.createSession({ userId })).session!.sessionId;
}

test(
  "the first message has position and lease; then a checkpoint follows at least every second",
  { skip },
  async () => {
    const stream = await watch();
    await sleep(4000);
    const [first, ...rest] = stream.record.events;
    assert.equal(first!.event.case, "opened");
    const { position, lease } = first!.event.value as WatchOpened;
    assert.ok(position.length > 0);
    assert.deepEqual({ ...lease }, { $typeName: "google.protobuf.Duration", seconds: 3n, nanos: 0 });
    const times = [first!.atMs, ...rest.filter(({ event }) => event.case === "checkpoint").map(({ atMs }) => atMs)];
    assert.ok(times.length >= 4, `${times.length - 1} checkpoints in 4 s`);
    times.slice(1).forEach((at, i) => assert.ok(at - times[i]! < 1200, `${at - times[i]!} ms without a checkpoint`));
  },
);

test(
  "filters by users, sessions and reasons pass exactly the changes that match, on any instance",
  { skip },
  async () => {
    const [ada, bob] = ["filter-ada", "filter-bob"];
    const [a1, a2, b1] = [await createdBy(ada), await createdBy(ada), await createdBy(bob)];
    const streams = {
      all: await watch({}, 1),
      ada: await watch({ userIds: [ada] }, 1),
      one: await watch({ sessionIds: [a2] }),
      deleted: await watch({ reasons: [R.DELETED] }, 1),
      none: await watch({ userIds: [ada], reasons: [R.EXPIRED] }),
      changed: await watch({ kinds: [InvalidationKind.CHANGED] }),
      changedOrDeleted: await watch({
        userIds: [ada],
        kinds: [InvalidationKind.CHANGED, InvalidationKind.ENDED],
        reasons: [R.DELETED],
      }),
    };
    await client.updateSessionData({ sessionId: a1, data: { x: 1 } });
    for (const sessionId of [a1, a2, b1]) await client.deleteSession({ sessionId });
    const seen = Object.fromEntries(
      await Promise.all(
        Object.entries(streams).map(async ([name, stream]) => {
          await stream.checkpoint();
          const names = new Map([a1, a2, b1].map((id, i) => [id, ["a1", "a2", "b1"][i]]));
          return [
            name,
            invalidationsOf(stream).map((event) => `${names.get(event.sessionId)} ${reasonOf(event)}`),
          ] as const;
        }),
      ),
    );
    const byUser = (list: string[], user: string) => list.filter((each) => each.startsWith(user));
    assert.deepEqual(byUser(seen["all"]!, "a"), [`a1 ${CHANGED}`, `a1 ${R.DELETED}`, `a2 ${R.DELETED}`]);
    assert.deepEqual(byUser(seen["all"]!, "b"), [`b1 ${R.DELETED}`]);
    assert.deepEqual(seen["ada"], [`a1 ${CHANGED}`, `a1 ${R.DELETED}`, `a2 ${R.DELETED}`]);
    assert.deepEqual(seen["one"], [`a2 ${R.DELETED}`]);
    assert.deepEqual(seen["deleted"]!.toSorted(), [`a1 ${R.DELETED}`, `a2 ${R.DELETED}`, `b1 ${R.DELETED}`]);
    assert.deepEqual(seen["none"], []);
    assert.deepEqual(seen["changed"], [`a1 ${CHANGED}`]);
    assert.deepEqual(seen["changedOrDeleted"], seen["ada"]);
  },
);

test(
  "a watcher receives an invalidation with its reason for every way in which a session can end",
  { skip },
  async () => {
    const userId = "reasons";
    const stream = await watch({ userIds: [userId] }, 1);
    const secure = async () => {
      const { session, token } = await client.createSecureSession({ userId });
      return { id: session!.sessionId, token };
    };
    const onDevice = async (deviceId: string) =>
      (await client.createDeviceSession({ userId, device: { deviceId } })).session!.sessionId;
    const expected: [string, InvalidationReason | typeof CHANGED][] = [];

    const deleted = await createdBy(userId);
    await client.deleteSession({ sessionId: deleted });
    expected.push([deleted, R.DELETED]);
    const revoked = await secure();
    await client.revokeToken({ token: revoked.token });
    expected.push([revoked.id, R.REVOKED]);
    const invalidated = await createdBy(userId);
    const reason = RevocationReason.STOLEN_CREDENTIAL;
    await client.invalidateSession({ sessionId: invalidated, actor: "on-call", reason });
    expected.push([invalidated, R.REVOKED]);
    const evicted = await onDevice("phone");
    const phone = await onDevice("phone");
    await client.revokeDevice({ userId, deviceId: "phone" });
    expected.push([evicted, R.DEVICE_REPLACED], [phone, R.DEVICE_REVOKED]);
    const regenerated = await createdBy(userId);
    const successor = (await client.regenerateSession({ sessionId: regenerated })).session!.sessionId;
    expected.push([regenerated, R.REGENERATED]);
    const limit = { maxSessions: 1, onExceed: OnExceed.EVICT_OLDEST };
    const only = (await client.createSession({ userId, limit })).session!.sessionId;
    expected.push([successor, R.EVICTED]);
    await client.updateSessionData({ sessionId: only, data: { x: 1 } });
    expected.push([only, CHANGED]);
    await client.deleteUserSessions({ userId });
    expected.push([only, R.USER_REVOKED]);
    const reused = await secure();
    await client.rotateToken({ token: reused.token });
    await authorities.passGrace(reused.id);
    await client.validateToken({ token: reused.token });
    expected.push([reused.id, CHANGED], [reused.id, R.TOKEN_REUSED]);
    await stream.checkpoint();
    const events = invalidationsOf(stream);
    const names = events.map((event) => [event.sessionId, reasonOf(event)]);
    assert.deepEqual(names, expected);
    const stolen = events.find(({ sessionId }) => sessionId === invalidated)!;
    assert.deepEqual([stolen.actor, stolen.principal, stolen.revocationReason], ["on-call", "anonymous", reason]);
    assert.ok(events.every((event) => event.principal === "anonymous"));
    assert.ok(events.every((event) => event.userId === userId && event.time !== undefined && event.version > 0n));
  },
);

test("expirations are sent within 5 s, however many there are in one partition", { skip }, async () => {
  const sessionIds = await Promise.all(Array.from({ length: 120 }, () => createdBy("expires")));
  const stream = await watch({ userIds: ["expires"], reasons: [R.EXPIRED] });
  await Promise.all(sessionIds.map((sessionId) => authorities.expireNow(sessionId)));
  const left = new Set(sessionIds);
  await stream.until((event) => {
    if (event.case === "invalidation") left.delete(event.value.sessionId);
    return left.size === 0;
  }, 5000);
});

test("no checkpoint is sent while the store hangs; checkpoints resume afterwards", { skip }, async () => {
  const stream = await watch();
  await stream.checkpoint();
  authorities.redis.pause();
  await sleep(200);
  const before = stream.record.events.length;
  stream.renew("during the hang");
  await sleep(2500);
  const during = stream.record.events.slice(before).map(({ event }) => event.case);
  authorities.redis.resume();
  assert.deepEqual(during, []);
  for (const deadlineMs = performance.now() + 5000; ; await sleep(50)) {
    if (await stream.checkpoint(1000).catch(() => undefined)) break;
    assert.ok(performance.now() < deadlineMs, "no checkpoint after the store resumed");
  }
});

// So many changes of one session with a long user id exceed what a connection (64 KiB) and a queue (256 KiB) hold.
const FLOOD = 1200;

async function flood(userId: string): Promise<void> {
  const { session } = await client.createHashSession({ userId, fields: { n: "0" } });
  const { sessionId } = session!;
  await race(FLOOD, async () => void (await client.incrementSessionField({ sessionId, field: "n", delta: 1n })));
}

test("a watcher that falls behind receives a reset in place of the lost changes", { skip }, async () => {
  const userId = `overflow${"x".repeat(240)}`;
  const stream = await watch({ userIds: [userId] });
  stream.stall();
  await flood(userId);
  stream.unstall();
  await stream.checkpoint();
  const events = stream.record.events.map(({ event }) => event);
  const resets = events.flatMap((event, index) => (event.case === "reset" ? [{ index, ...event.value }] : []));
  assert.ok(resets.length > 0, "no reset");
  for (const { cause, partition } of resets)
    assert.deepEqual([cause, partition], [WatchResetCause.OVERFLOW, undefined]);
  // Versions have no gap except where there is a reset.
  let last = 1n;
  let isReset = false;
  for (const event of events) {
    if (event.case === "reset") isReset = true;
    if (event.case !== "invalidation") continue;
    assert.ok(event.value.version > last, "sent in order");
    assert.ok(isReset || event.value.version === last + 1n, `version ${event.value.version} after ${last}`);
    [last, isReset] = [event.value.version, false];
  }
  assert.ok(events.filter((event) => event.case === "invalidation").length < FLOOD);
});

test("a stream that its watcher does not read for a lease ends with RESOURCE_EXHAUSTED", { skip }, async () => {
  const userId = `stalled${"x".repeat(240)}`;
  const stream = await watch({ userIds: [userId] });
  stream.stall();
  await flood(userId);
  await sleep(LEASE_MS + 1000);
  stream.unstall();
  assert.equal((await stream.ended)?.code, status.RESOURCE_EXHAUSTED);
});

test(
  "a barrier with too short a deadline says that the session has ended (cases/deadlines.md 4)",
  { skip },
  async () => {
    const sessionId = await createdBy("short barrier");
    await assert.rejects(
      client.invalidateSession({ sessionId, barrier: true }, { timeoutMs: 1000 }),
      (error: CallError) => {
        assert.equal(error.code, status.DEADLINE_EXCEEDED);
        assert.match(error.message, /the session has ended/);
        return true;
      },
    );
    assert.equal((await client.validateSession({ sessionId })).verdict, Verdict.INVALID);
  },
);

test("the barrier outlasts every lease that was granted before the invalidation was sent", { skip }, async () => {
  const sessionId = await createdBy("barrier");
  const streams = [await watch(), await watch({}, 1), await watch({}, 1)];
  const renewing = setInterval(() => streams.forEach((each) => void each.checkpoint().catch(() => undefined)), 50);
  await sleep(300);
  // The last watcher reads nothing from here on, so its cache only has the lease that it had.
  streams[2]!.stall();
  const startMs = performance.now();
  await client.invalidateSession({ sessionId, barrier: true });
  const returnedMs = performance.now();
  clearInterval(renewing);
  assert.ok(returnedMs - startMs >= LEASE_MS, `took ${returnedMs - startMs} ms`);
  for (const [i, { record }] of streams.entries()) {
    const invalidatedAt = record.events.findIndex(
      ({ event }) => event.case === "invalidation" && event.value.sessionId === sessionId,
    );
    const before = invalidatedAt === -1 ? record.events : record.events.slice(0, invalidatedAt);
    const leases = before.flatMap(({ event }) =>
      event.case === "checkpoint" && event.value.nonce ? [event.value] : [],
    );
    const safeUntilMs = Math.max(...leases.map(({ nonce }) => record.renewals.get(nonce)! + LEASE_MS));
    assert.ok(safeUntilMs > startMs, `watcher ${i} had no lease`);
    assert.ok(safeUntilMs < returnedMs, `watcher ${i} could serve ${safeUntilMs - returnedMs} ms longer`);
  }
});

test("an instance that shuts down ends its streams with UNAVAILABLE and RetryInfo", { skip }, async () => {
  const stream = await watch({}, 1);
  await authorities.servers[1]!.close();
  const error = await stream.ended;
  assert.deepEqual([error?.code, error?.reason, error?.retryInfo], [status.UNAVAILABLE, "SHUTTING_DOWN", true]);
});
