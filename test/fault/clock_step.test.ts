// A store whose clock is an hour ahead for a few seconds: what the service has said to be dead stays dead when the clock is right
// again, and what is alive is still found.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { InvalidationReason, OnExceed, Verdict } from "../../gen/session/v1/session_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import type { AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { createSteppedClock, steppedClockMissing, type SteppedClock } from "../helpers/stepped_clock.ts";
import { createWatchClient } from "../helpers/watch_client.ts";
import { until } from "../helpers/until.ts";

const skip = redisServerMissing() || steppedClockMissing();
const USERS = Array.from({ length: 60 }, (_, n) => `user ${n}`);
const HOUR_S = 3600;
const MINUTE_MS = 60_000;
/** So many that the store does not find, within seconds, the few keys among them whose time has passed. */
const OTHER_KEYS = 200_000;
/** So few at a time that the store goes on replying. */
const KEYS_PER_SCRIPT = 1000;
const WRITE_KEYS = `for i = 1, ${KEYS_PER_SCRIPT} do redis.call('SET', 'other:' .. ARGV[1] + i, 'x', 'EX', 2592000) end`;
const DELETE_KEYS = `for i = 1, ${KEYS_PER_SCRIPT} do redis.call('DEL', 'other:' .. ARGV[1] + i) end`;

let clock: SteppedClock;
let authorities: Authorities;
let client: AuthorityClient;

before(async () => {
  if (skip) return;
  clock = createSteppedClock();
  authorities = await startAuthorities({ redisEnv: clock.env, env: { SA_CREATE_RATE: "100/1m" } });
  client = authorities.clients[0]!;
  await forOtherKeys(WRITE_KEYS);
});
after(async () => {
  if (skip) return;
  await forOtherKeys(DELETE_KEYS);
  await authorities.assertStoreSound();
  await authorities.close();
  clock.remove();
});

async function forOtherKeys(script: string): Promise<void> {
  for (let first = 0; first < OTHER_KEYS; first += KEYS_PER_SCRIPT) {
    await authorities.control.eval(script, { arguments: [String(first)] });
  }
}

async function stepTo(offsetS: number): Promise<void> {
  clock.setOffset(offsetS);
  const trueMs = Date.now();
  const hasStepped = async () => {
    const [seconds] = (await authorities.control.sendCommand(["TIME"])) as unknown as [string];
    return Math.abs(Number(seconds) - trueMs / 1000 - offsetS) < HOUR_S / 2;
  };
  await until("the store's clock has stepped", hasStepped, 15_000);
}

describe("a store's clock that is an hour ahead for a while", { skip }, () => {
  test("what was reported as expired is not valid again, and every live session is found", async () => {
    const users = await Promise.all(
      USERS.map(async (userId) => {
        const device = { deviceId: `device of ${userId}` };
        const short = { userId, idleTimeout: durationFromMs(30 * MINUTE_MS), fields: { a: "1" } };
        const { session } = await client.createDeviceSession({ ...short, device });
        const { token } = await client.createSecureSession(short);
        const long = await client.createSession({ userId, idleTimeout: durationFromMs(120 * MINUTE_MS) });
        return {
          userId,
          deviceId: device.deviceId,
          sessionId: session!.sessionId,
          token,
          longId: long.session!.sessionId,
        };
      }),
    );
    const watcher = createWatchClient(authorities.servers[0]!.addresses.grpc!);
    const stream = watcher.watch({ reasons: [InvalidationReason.EXPIRED] });
    await stream.opened();
    await stepTo(HOUR_S);
    let reported = 0;
    await stream.until(({ case: kind }) => kind === "invalidation" && ++reported === 2 * USERS.length, 30_000);
    await stepTo(0);

    for (const { userId, deviceId, sessionId, token, longId } of users) {
      assert.equal((await client.validateSession({ sessionId })).verdict, Verdict.INVALID);
      assert.equal((await client.validateToken({ token })).verdict, Verdict.INVALID);
      await assert.rejects(client.getSession({ sessionId }), { reason: "SESSION_NOT_FOUND" });
      await assert.rejects(client.getDeviceSession({ userId, deviceId }), { reason: "SESSION_NOT_FOUND" });
      assert.equal((await client.validateSession({ sessionId: longId })).verdict, Verdict.VALID);
      const { sessions } = await client.listUserSessions({ userId });
      assert.deepEqual(
        sessions.map((each) => each.sessionId),
        [longId],
      );
      assert.equal((await client.deleteUserSessions({ userId })).deletedCount, 1);
      assert.equal((await client.validateSession({ sessionId: longId })).verdict, Verdict.INVALID);
    }
    watcher.close();
  });

  test("what the store has deleted meanwhile counts against no limit, and its end is reported", async () => {
    const watcher = createWatchClient(authorities.servers[0]!.addresses.grpc!);
    const stream = watcher.watch({ reasons: [InvalidationReason.EXPIRED] });
    await stream.opened();
    const limit = { maxSessions: 1, onExceed: OnExceed.REJECT };
    const idleTimeout = durationFromMs(30 * MINUTE_MS);
    const sessions = await Promise.all(
      USERS.map(async (userId) => (await client.createSession({ userId: `limited ${userId}`, idleTimeout })).session!),
    );
    await stepTo(HOUR_S);
    const validations = sessions.map(({ sessionId }) => client.validateSession({ sessionId }));
    for (const { verdict } of await Promise.all(validations)) assert.equal(verdict, Verdict.INVALID);
    // So soon that the sweep has not come to most of them.
    await stepTo(0);
    for (const [i, { userId, sessionId }] of sessions.entries()) {
      if (i % 2 === 0) await client.createSession({ userId, limit });
      else assert.equal((await client.deleteUserSessions({ userId })).deletedCount, 0);
      await stream.until(({ case: kind, value }) => kind === "invalidation" && value.sessionId === sessionId);
    }
    watcher.close();
  });

  test("a user who logged in meanwhile can log in again at once", async () => {
    const userId = "logs in twice";
    await stepTo(HOUR_S);
    const ahead = (await client.createSession({ userId })).session!;
    await stepTo(0);
    await client.createSession({ userId });
    assert.equal((await client.validateSession({ sessionId: ahead.sessionId })).verdict, Verdict.VALID);
    assert.equal((await client.deleteUserSessions({ userId })).deletedCount, 2);
  });
});
