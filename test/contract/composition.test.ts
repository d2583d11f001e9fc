// Sessions compose: whichever method creates a session, it can have data, fields, a device, labels and an authentication, and
// every method works on every session that has the part it is about.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { durationFromMs, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { CredentialKind, DeviceType, LimitPer, OnExceed, Verdict } from "../../gen/session/v1/session_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import type { AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

const skip = redisServerMissing();
const METHODS = ["createSession", "createHashSession", "createSecureSession", "createDeviceSession"] as const;
type Method = (typeof METHODS)[number];
type Request = Parameters<AuthorityClient["createSession"]>[0];

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

async function create(method: Method, request: Request) {
  const response = await client[method](request as never);
  return { session: response.session!, token: "token" in response ? response.token : "" };
}

async function validate({ session, token }: Awaited<ReturnType<typeof create>>, options = {}) {
  const { sessionId } = session;
  return token === ""
    ? client.validateSession({ sessionId, ...options })
    : client.validateToken({ token, touch: false, ...options });
}

for (const method of METHODS) {
  describe(method, { skip }, () => {
    const everything = {
      data: { cart: ["book"] },
      fields: { theme: "dark", visits: "41" },
      device: { deviceId: `device of ${method}`, name: "Ada's phone", type: DeviceType.MOBILE },
      labels: { app: "shop", sid: "oidc-1" },
      authentication: { methods: ["pwd", "otp"], level: 2, contextClass: "urn:example:two-factor" },
    };

    test("makes a session with all parts, which all methods return", async () => {
      const userId = `all parts of ${method}`;
      const created = await create(method, { userId, ...everything });
      const { sessionId } = created.session;
      const listed = await client.listUserSessions({ userId });
      const devices = await client.listUserDevices({ userId });
      const onDevice = await client.getDeviceSession({ userId, deviceId: everything.device.deviceId });
      const validated = await validate(created, { includeFields: true });
      for (const session of [
        created.session,
        ...listed.sessions,
        ...devices.sessions,
        onDevice.session,
        validated.session,
      ]) {
        assert.equal(session!.sessionId, sessionId);
        assert.deepEqual(session!.data, everything.data);
        assert.deepEqual(session!.fields, everything.fields);
        assert.deepEqual(session!.labels, everything.labels);
        assert.equal(session!.device!.name, "Ada's phone");
        const { methods, level, contextClass, time } = session!.authentication!;
        assert.deepEqual({ methods, level, contextClass }, everything.authentication);
        assert.deepEqual(time, created.session.createTime);
        const opener = method === "createSecureSession" ? CredentialKind.TOKEN : CredentialKind.SESSION_ID;
        assert.equal(session!.credentialKind, opener);
      }
      assert.deepEqual((await validate(created)).session!.fields, {}, "fields only when they are asked for");
    });

    test("makes a session whose fields, counters, data and device can be used", async () => {
      const userId = `uses of ${method}`;
      const { session } = await create(method, { userId, ...everything });
      const { sessionId } = session;
      assert.equal((await client.incrementSessionField({ sessionId, field: "visits", delta: 1n })).value, 42n);
      assert.equal((await client.getSessionField({ sessionId, field: "theme" })).value, "dark");
      const set = await client.setSessionFields({ sessionId, fields: { lang: "de" }, remove: ["theme"] });
      assert.deepEqual(set.session!.fields, { visits: "42", lang: "de" });
      const merged = await client.updateSessionData({ sessionId, data: { seen: true }, merge: true });
      assert.deepEqual(merged.session!.data, { cart: ["book"], seen: true });
      assert.equal((await client.revokeDevice({ userId, deviceId: everything.device.deviceId })).deleted, true);
      assert.equal((await client.listUserSessions({ userId })).sessions.length, 0);
    });

    test("replaces the session on the device, whatever opens that one", async () => {
      for (const earlier of METHODS) {
        const userId = `${earlier} then ${method}`;
        const device = { deviceId: `device of ${userId}` };
        const first = await create(earlier, { userId, device });
        const second = await create(method, { userId, device });
        assert.equal((await validate(first)).verdict, Verdict.INVALID);
        assert.equal((await validate(second)).verdict, Verdict.VALID);
        const { session } = await client.getDeviceSession({ deviceId: device.deviceId });
        assert.equal(session!.sessionId, second.session.sessionId);
      }
    });

    test("keeps all parts through a regeneration", async () => {
      const created = await create(method, { userId: `regenerated ${method}`, ...everything });
      const { token } = created;
      const handle = token === "" ? { sessionId: created.session.sessionId } : { token };
      const { session } = await client.regenerateSession(handle);
      for (const part of ["data", "fields", "labels", "device", "authentication", "credentialKind"] as const) {
        assert.deepEqual(session![part], created.session[part], part);
      }
    });
  });
}

describe("a limit", { skip }, () => {
  const reached = { code: status.RESOURCE_EXHAUSTED, reason: "SESSION_LIMIT_REACHED" };
  const deviceLimit = (onExceed: OnExceed) => ({ maxSessions: 1, onExceed, per: LimitPer.DEVICE_TYPE });
  const alive = async (userId: string) => {
    const { sessions } = await client.listUserSessions({ userId });
    return sessions.map(({ device, labels }) => device?.deviceId ?? labels["app"]).toSorted();
  };

  test("per device type leaves devices of other types alone (cases/login.md 3)", async () => {
    const userId = "one phone and one PC";
    const login = (deviceId: string, type: DeviceType, onExceed: OnExceed = OnExceed.EVICT_OLDEST) =>
      client.createSecureSession({ userId, device: { deviceId, type }, limit: deviceLimit(onExceed) });
    await login("PC", DeviceType.DESKTOP);
    await login("phone", DeviceType.MOBILE);
    assert.deepEqual(await alive(userId), ["PC", "phone"]);
    await login("new phone", DeviceType.MOBILE);
    assert.deepEqual(await alive(userId), ["PC", "new phone"]);
    await assert.rejects(login("second PC", DeviceType.DESKTOP, OnExceed.REJECT), reached);
    // A login on the same device replaces its session, so it does not count.
    await login("new phone", DeviceType.MOBILE, OnExceed.REJECT);
    assert.deepEqual(await alive(userId), ["PC", "new phone"]);
  });

  test("per label counts the sessions with the same value", async () => {
    const userId = "two of each app";
    const login = (app: string, onExceed: OnExceed = OnExceed.REJECT) =>
      client.createSession({
        userId,
        labels: { app, other: "x" },
        limit: { maxSessions: 2, onExceed, per: LimitPer.LABEL, labelKey: "app" },
      });
    for (const app of ["shop", "shop", "mail"]) await login(app);
    await assert.rejects(login("shop"), reached);
    await login("mail");
    await login("shop", OnExceed.EVICT_OLDEST);
    assert.deepEqual(await alive(userId), ["mail", "mail", "shop", "shop"]);
  });

  test("per device type or label needs the device or the label", async () => {
    const refused = { code: status.INVALID_ARGUMENT };
    const limits = [
      { maxSessions: 1, per: LimitPer.DEVICE_TYPE },
      { maxSessions: 1, per: LimitPer.LABEL },
      { maxSessions: 1, per: LimitPer.LABEL, labelKey: "absent" },
      { maxSessions: 1, labelKey: "app" },
    ];
    for (const limit of limits) {
      await assert.rejects(client.createSession({ userId: "needs", labels: { app: "x" }, limit }), refused);
    }
  });

  test("that evicts sees uses within the touch interval (cases/timeouts.md 2)", async () => {
    const userId = "laptop and phone";
    const limit = { maxSessions: 2, onExceed: OnExceed.EVICT_OLDEST };
    const login = (deviceId: string) => client.createSecureSession({ userId, device: { deviceId }, limit });
    const laptop = await login("laptop");
    await login("phone");
    // Used until the store has noted a use, which is a second after the login.
    for (let noted = false; !noted;) {
      const { session } = await client.validateToken({ token: laptop.token });
      noted = timestampMs(session!.lastAccessTime!) > timestampMs(laptop.session!.lastAccessTime!);
    }
    await login("tablet");
    assert.deepEqual(await alive(userId), ["laptop", "tablet"]);
  });
});

describe("authentication", { skip }, () => {
  test("in the future is refused, but for a second of difference between clocks (cases/login.md 1)", async () => {
    const future = { code: status.FAILED_PRECONDITION, reason: "AUTHENTICATED_IN_FUTURE" };
    const login = (time: ReturnType<typeof timestampFromMs>) =>
      client.createSession({ userId: "future", authentication: { time } });
    const nowMs = await authorities.nextMs();
    await assert.rejects(login(timestampFromMs(nowMs + 60_000)), future);
    await assert.rejects(login({ ...timestampFromMs(0), seconds: 253_402_300_799n }), future);
    const { session } = await login(timestampFromMs(nowMs + 900));
    assert.ok(timestampMs(session!.authentication!.time!) <= timestampMs(session!.createTime!));
  });

  test("that is too old or too weak requires a step-up, and the session stays valid", async () => {
    const nowMs = await authorities.nextMs();
    const time = timestampFromMs(nowMs - 3_600_000);
    const strong = await create("createSecureSession", { userId: "step up", authentication: { time, level: 2 } });
    const unknown = await create("createSession", { userId: "step up" });
    for (const [session, options, expected] of [
      [strong, {}, false],
      [strong, { maxAuthAge: durationFromMs(7_200_000), minLevel: 2 }, false],
      [strong, { maxAuthAge: durationFromMs(1_800_000) }, true],
      [strong, { minLevel: 3 }, true],
      [unknown, {}, false],
      [unknown, { maxAuthAge: durationFromMs(7_200_000) }, true],
      [unknown, { minLevel: 1 }, true],
    ] as const) {
      const handle = session.token === "" ? { sessionId: session.session.sessionId } : { token: session.token };
      const [one] = (
        await client.batchValidate({
          entries: [
            {
              handle:
                "token" in handle
                  ? { case: "token", value: handle.token! }
                  : { case: "sessionId", value: handle.sessionId },
              ...options,
            },
          ],
        })
      ).results;
      const other = await validate(session, options);
      for (const { verdict, stepUpRequired } of [one!, other]) {
        assert.deepEqual([verdict, stepUpRequired], [Verdict.VALID, expected], JSON.stringify(options, String));
      }
    }
  });
});

describe("all methods that validate", { skip }, () => {
  test("say how long is left and whether a cache may keep it (cases/timeouts.md 3)", async () => {
    const byId = await create("createSession", { userId: "left", idleTimeout: durationFromMs(60_000) });
    const byToken = await create("createSecureSession", { userId: "left", idleTimeout: durationFromMs(60_000) });
    const entries = [
      { handle: { case: "sessionId" as const, value: byId.session.sessionId } },
      { handle: { case: "token" as const, value: byToken.token } },
    ];
    const { results } = await client.batchValidate({ entries });
    for (const result of [await validate(byId), await validate(byToken), ...results]) {
      const leftMs = Number(result.expiresIn!.seconds) * 1000 + result.expiresIn!.nanos / 1e6;
      assert.ok(leftMs > 0 && leftMs <= 60_000, String(leftMs));
      assert.equal(result.cacheable, true);
    }
  });
});
