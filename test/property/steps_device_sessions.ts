// Steps on device sessions by their device: get, with and without the user, and revoke.

import assert from "node:assert/strict";
import fc from "fast-check";
import { ACTOR, outcomeOf, sessionOf, sometimes, stepOf, two, type Step } from "./steps_run.ts";

const getDevice = stepOf("getDevice", fc.record({ device: two, user: sometimes(2, two) }), async (run, s) => {
  const deviceId = run.device(s.device);
  const user = s.user === undefined ? {} : { userId: run.user(s.user) };
  const actual = await outcomeOf(sessionOf(run.client.getDeviceSession({ deviceId, ...user })));
  run.assertSame(actual, run.model.getDevice(deviceId, user.userId));
});

const revokeDevice = stepOf("revokeDevice", fc.record({ device: two, user: two }), async (run, s) => {
  const [userId, deviceId] = [run.user(s.user), run.device(s.device)];
  const { deleted } = await run.client.revokeDevice({ userId, deviceId, actor: ACTOR });
  assert.equal(deleted, run.model.revokeDevice(userId, deviceId));
});

export const deviceSteps: fc.Arbitrary<Step> = fc.oneof({ weight: 2, arbitrary: getDevice }, revokeDevice);
