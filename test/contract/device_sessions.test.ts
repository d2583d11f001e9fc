// Device sessions, as the contract describes them: one session for each device of a user.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { status } from "@grpc/grpc-js";
import { DeviceType, InvalidationReason, Verdict } from "../../gen/session/v1/session_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import type { AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

const skip = redisServerMissing();
const notFound = { code: status.NOT_FOUND, reason: "SESSION_NOT_FOUND" };

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

async function login(userId: string, deviceId: string) {
  const { session } = await client.createDeviceSession({ userId, device: { deviceId } });
  return session!.sessionId;
}
const on = async (deviceId: string, userId = "") => {
  return (await client.getDeviceSession({ deviceId, userId })).session!.sessionId;
};
const isAlive = async (sessionId: string) => {
  return (await client.validateSession({ sessionId })).verdict === Verdict.VALID;
};

describe("a device", { skip }, () => {
  test("is returned as it was given", async () => {
    const device = {
      ...{ deviceId: "phone 1/ä:{x}", name: "Ada's phone", type: DeviceType.MOBILE, os: "Android 16" },
      ...{ browser: "Firefox 145", ipAddress: "192.0.2.7", location: "Zürich", lastIpAddress: "192.0.2.8" },
    };
    const { session } = await client.createDeviceSession({ userId: "kept", device, ipAddress: "192.0.2.1" });
    const { sessionId } = session!;
    const { session: read } = await client.getDeviceSession({ userId: "kept", deviceId: device.deviceId });
    const { session: validated } = await client.validateSession({ sessionId });
    const { sessions } = await client.listUserDevices({ userId: "kept" });
    for (const seen of [session, read, validated, ...sessions]) {
      const { $typeName: _, ...values } = seen!.device!;
      assert.deepEqual(values, device);
      assert.equal(seen!.ipAddress, "192.0.2.1");
    }
  });

  test("without a type has the type UNKNOWN", async () => {
    for (const type of [DeviceType.UNSPECIFIED, DeviceType.UNKNOWN]) {
      const { session } = await client.createDeviceSession({ userId: "type", device: { deviceId: "d", type } });
      assert.equal(session!.device!.type, DeviceType.UNKNOWN);
      assert.equal((await client.getDeviceSession({ deviceId: "d" })).session!.device!.type, DeviceType.UNKNOWN);
    }
  });

  test("is required, with an id", async () => {
    const invalid = (field: string) => ({ code: status.INVALID_ARGUMENT, fields: [field] });
    await assert.rejects(client.createDeviceSession({ userId: "none" }), invalid("device"));
    await assert.rejects(client.createDeviceSession({ userId: "none", device: {} }), invalid("device.device_id"));
    const type = 9 as never;
    await assert.rejects(
      client.createDeviceSession({ userId: "none", device: { deviceId: "d", type } }),
      invalid("device.type"),
    );
  });
});

describe("logins on devices", { skip }, () => {
  test("a second login on a device replaces its session", async () => {
    const first = await login("again", "again-laptop");
    const other = await login("again", "again-phone");
    const second = await login("again", "again-laptop");
    assert.deepEqual([await isAlive(first), await isAlive(other), await isAlive(second)], [false, true, true]);
    assert.equal(await on("again-laptop", "again"), second);
    assert.equal((await client.explainSession({ sessionId: first })).reason, InvalidationReason.DEVICE_REPLACED);
    assert.deepEqual(await authorities.auditEvents("again"), ["created", "created", "device_replaced", "created"]);
    const ids = (await client.listUserDevices({ userId: "again" })).sessions.map((session) => session.sessionId);
    assert.deepEqual(ids, [other, second]);
  });

  test("two users on one device neither see nor end each other; a read without a user returns the last login", async () => {
    const ada = await login("ada", "kiosk");
    assert.equal(await on("kiosk"), ada);
    await authorities.nextMs();
    const bob = await login("bob", "kiosk");
    assert.deepEqual([await on("kiosk"), await on("kiosk", "ada"), await on("kiosk", "bob")], [bob, ada, bob]);
    assert.equal((await client.revokeDevice({ userId: "bob", deviceId: "kiosk" })).deleted, true);
    assert.equal(await isAlive(ada), true);
    assert.equal(await on("kiosk", "ada"), ada);
    await assert.rejects(on("kiosk", "bob"), notFound);
    await assert.rejects(on("kiosk"), notFound);
  });

  test("ten concurrent logins on one device leave one session", async () => {
    await Promise.all(Array.from({ length: 10 }, () => login("ten", "ten")));
    const { sessions } = await client.listUserSessions({ userId: "ten" });
    assert.equal(sessions.length, 1);
    assert.equal(await on("ten", "ten"), sessions[0]!.sessionId);
  });

  test("ListUserDevices lists device sessions only, page by page", async () => {
    await client.createSession({ userId: "pages" });
    await client.createSecureSession({ userId: "pages" });
    const ids: string[] = [];
    for (let n = 0; n < 5; n++) ids.push(await login("pages", `pages-${n}`));
    const listed: string[] = [];
    for (let pageToken = ""; ;) {
      const page = await client.listUserDevices({ userId: "pages", pageSize: 2, pageToken });
      assert.ok(page.sessions.length <= 2);
      listed.push(...page.sessions.map((session) => session.sessionId));
      pageToken = page.nextPageToken;
      if (pageToken === "") break;
      await assert.rejects(client.listUserSessions({ userId: "pages", pageToken }), { fields: ["page_token"] });
    }
    assert.deepEqual(listed, ids);
  });
});

describe("the end of a device session", { skip }, () => {
  const ways: Record<string, (userId: string, sessionId: string) => Promise<unknown>> = {
    revokeDevice: (userId) => client.revokeDevice({ userId, deviceId: `d of ${userId}` }),
    deleteSession: (_, sessionId) => client.deleteSession({ sessionId }),
    deleteUserSessions: (userId) => client.deleteUserSessions({ userId }),
    eviction: (userId) => client.createSession({ userId, limit: { maxSessions: 1, onExceed: 2 } }),
    expiry: (_, sessionId) => authorities.expireNow(sessionId),
  };
  for (const [way, end] of Object.entries(ways)) {
    test(`by ${way} leaves no session on the device`, async () => {
      const deviceId = `d of ${way}`;
      const sessionId = await login(way, deviceId);
      await end(way, sessionId);
      await assert.rejects(on(deviceId, way), notFound);
      await assert.rejects(on(deviceId), notFound);
      assert.equal((await client.listUserDevices({ userId: way })).sessions.length, 0);
      assert.equal((await client.revokeDevice({ userId: way, deviceId })).deleted, false);
      const next = await login(way, deviceId);
      assert.deepEqual([await on(deviceId, way), await on(deviceId)], [next, next]);
    });
  }

  test("a regenerated session stays on its device", async () => {
    await login("moved", "moved");
    const { session } = await client.regenerateSession({ sessionId: await on("moved", "moved") });
    assert.equal(await on("moved", "moved"), session!.sessionId);
    assert.equal(await on("moved"), session!.sessionId);
    assert.equal((await client.revokeDevice({ userId: "moved", deviceId: "moved" })).deleted, true);
    assert.equal(await isAlive(session!.sessionId), false);
  });

  test("a retried create that names another device does not change that device", async () => {
    const tablet = await login("retry too", "retry-tablet");
    await authorities.nextMs();
    const create = (deviceId: string) =>
      client.createDeviceSession({ userId: "retry", requestId: "r", device: { deviceId } });
    const phone = await create("retry-phone");
    assert.equal((await create("retry-tablet")).session!.sessionId, phone.session!.sessionId);
    assert.equal(await on("retry-tablet"), tablet);
    assert.equal(await on("retry-phone"), phone.session!.sessionId);
  });
});
