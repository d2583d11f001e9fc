// Administration: the sessions of all users of a tenant are listed, counted and ended.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { DeviceType, ListOrder, RevocationReason, Verdict } from "../../gen/session/v1/session_pb.ts";
import type { SessionFilterSchema } from "../../gen/session/v1/admin_pb.ts";
import { AuditEventType } from "../../gen/session/v1/audit_pb.ts";
import { startAdmin, type Admin } from "../helpers/admin.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

const skip = redisServerMissing();
const TENANTS = [
  "count one",
  "count two",
  "end",
  "filters",
  "full",
  "list",
  "many one",
  "many two",
  "named",
  "one call",
  "references",
  "refused",
  "resumes",
  "tokens",
];
type Filter = MessageInitShape<typeof SessionFilterSchema>;

let admin: Admin;

before(async () => {
  if (!skip) admin = await startAdmin(TENANTS);
});
after(async () => {
  if (skip) return;
  await admin.authorities.assertStoreSound();
  await admin.authorities.close();
});

/** Returns the users of the sessions that a filter selects in a tenant. */
async function usersOf(tenant: string, filter: Filter, pageSize = 1000): Promise<string[]> {
  const sessions = await admin.listAll({ tenant, filter, pageSize });
  return sessions.map(({ session }) => session!.userId).toSorted();
}

describe("ListSessions, newest first and oldest first", { skip }, () => {
  test("has the sessions of all users without fields, and their data only if it is asked for", async () => {
    const acme = admin.tenant("list");
    const [ids, users]: string[][] = [[], []];
    for (let n = 0; n < 30; n++) {
      const { session } = await acme.client.createSession({
        ...{ userId: `user ${n % 7}`, data: { n }, fields: { step: "cart" }, labels: { app: "shop" } },
      });
      ids!.push(session!.sessionId);
      users!.push(session!.userId);
    }
    for (const pageSize of [7, 1000]) {
      const newest = await admin.listAll({ tenant: acme.name, order: ListOrder.NEWEST_FIRST, pageSize });
      assert.deepEqual(
        newest.map(({ session }) => session!.userId),
        users!.toReversed(),
      );
    }
    const oldest = await acme.client.listSessions({ pageSize: 1000 });
    assert.ok(oldest.ordered);
    assert.deepEqual(
      oldest.sessions.map((listed) => listed.session!.sessionId),
      ids,
    );
    const [{ session, tenant } = {}] = oldest.sessions;
    assert.deepEqual(
      [tenant, session!.fields, session!.data, session!.labels],
      [acme.name, {}, undefined, { app: "shop" }],
    );
    const withData = await acme.client.listSessions({ includeData: true });
    assert.deepEqual(withData.sessions[0]!.session!.data, { n: 0 });
  });

  test("gives ids only to callers with the scope read", async () => {
    const acme = admin.tenant("references");
    const { session } = await acme.client.createSession({ userId: "ada" });
    const secure = await acme.client.createSecureSession({ userId: "bob" });
    const readable = await acme.client.listSessions({});
    assert.deepEqual(
      readable.sessions.map((listed) => listed.session!.sessionId),
      [session!.sessionId, secure.session!.sessionId],
    );
    const hidden = await admin.operator.listSessions({ tenant: acme.name });
    const [reference, byToken] = hidden.sessions.map((listed) => listed.session!.sessionId);
    assert.match(reference!, /^ref_/);
    assert.equal(byToken, secure.session!.sessionId);
    assert.equal((await acme.client.deleteSession({ sessionId: reference! })).deleted, true);
  });

  test("refuses the page token of another list", async () => {
    const acme = admin.tenant("tokens");
    for (let n = 0; n < 3; n++) await acme.client.createSession({ userId: "ada" });
    const { nextPageToken: pageToken } = await acme.client.listSessions({ pageSize: 1 });
    assert.notEqual(pageToken, "");
    const fields = { fields: ["page_token"] };
    await assert.rejects(acme.client.listSessions({ pageToken, order: ListOrder.NEWEST_FIRST }), fields);
    await assert.rejects(acme.client.listSessions({ pageToken, filter: { labels: { a: "b" } } }), fields);
    await assert.rejects(admin.operator.listSessions({ pageToken, tenant: "list" }), fields);
    await assert.rejects(acme.client.listSessions({ pageToken: `${pageToken}x` }), fields);
  });
});

describe("a filter", { skip }, () => {
  test("selects by each of its conditions, and by all of them together", async () => {
    const acme = admin.tenant("filters");
    const phone = { deviceId: "phone", type: DeviceType.MOBILE };
    const login = acme.client.createSession;
    await login({ userId: "phone", device: phone, ipAddress: "203.0.113.7", labels: { app: "shop", sid: "1" } });
    await login({ userId: "pc", device: { deviceId: "pc", type: DeviceType.DESKTOP }, ipAddress: "203.0.114.7" });
    await login({ userId: "v6", ipAddress: "2001:DB8:0:0::7", labels: { app: "shop" } });
    await login({ userId: "mapped", ipAddress: "::ffff:203.0.113.9", labels: { app: "mail" } });
    await login({ userId: "nowhere" });
    await login({ userId: "" });
    const middle = await acme.client.createSession({ userId: "middle" });
    const middleMs = timestampMs(middle.session!.createTime!);
    await admin.authorities.nextMs();
    const last = await login({ userId: "last" });
    await acme.client.getSession({ sessionId: middle.session!.sessionId });
    const touched = await acme.client.getSession({ sessionId: middle.session!.sessionId, touch: false });
    const accessed = touched.session!.lastAccessTime!;
    const all = ["", "last", "mapped", "middle", "nowhere", "pc", "phone", "v6"];

    const cases: [Filter, string[]][] = [
      [{}, all],
      [{ deviceType: DeviceType.MOBILE }, ["phone"]],
      [{ deviceType: DeviceType.DESKTOP }, ["pc"]],
      [{ deviceType: DeviceType.TABLET }, []],
      [{ labels: { app: "shop" } }, ["phone", "v6"]],
      [{ labels: { app: "shop", sid: "1" } }, ["phone"]],
      [{ labels: { app: "shop", sid: "2" } }, []],
      [{ labels: { toString: "x" } }, []],
      [{ anonymous: false }, all.slice(1)],
      [{ anonymous: true }, [""]],
      [{ addressPrefix: "203.0.113.0/24" }, ["mapped", "phone"]],
      [{ addressPrefix: "203.0.112.0/22" }, ["mapped", "pc", "phone"]],
      [{ addressPrefix: "203.0.113.7" }, ["phone"]],
      [{ addressPrefix: "0.0.0.0/0" }, ["mapped", "pc", "phone"]],
      [{ addressPrefix: "2001:db8::/32" }, ["v6"]],
      [{ addressPrefix: "2001:db8:0::0007" }, ["v6"]],
      [{ addressPrefix: "::/0" }, ["v6"]],
      [{ userIds: ["pc", "v6", "nobody", "pc"] }, ["pc", "v6"]],
      [{ userIds: ["pc", "v6"], labels: { app: "shop" } }, ["v6"]],
      [{ createdAfter: last.session!.createTime! }, ["last"]],
      [{ createdAfter: timestampFromMs(middleMs), labels: {} }, ["last", "middle"]],
      [{ createdBefore: last.session!.createTime! }, all.filter((user) => user !== "last")],
      [{ accessedAfter: accessed }, await usersAccessedSince(acme.name, timestampMs(accessed))],
      [{ accessedBefore: timestampFromMs(timestampMs(accessed) + 1000) }, all],
      [{ accessedBefore: timestampFromMs(middleMs - 60_000) }, []],
    ];
    for (const [filter, users] of cases) {
      assert.deepEqual(await usersOf(acme.name, filter), users, JSON.stringify(filter, bigintText));
      assert.deepEqual(await usersOf(acme.name, filter, 1), users);
      const progress = await acme.end({
        filter: { createdAfter: timestampFromMs(0), ...filter },
        dryRun: true,
      });
      assert.deepEqual([progress.endedCount, progress.done], [BigInt(users.length), true]);
    }
    for (const addressPrefix of ["x", "1.2.3.4/33", "1.2.3.4/", "::/129", "1.2.3.4/8/8", "/8", "1.2.3.4/-1"]) {
      const refused = { fields: ["filter.address_prefix"] };
      await assert.rejects(acme.client.listSessions({ filter: { addressPrefix } }), refused, addressPrefix);
    }
  });

  async function usersAccessedSince(tenant: string, ms: number): Promise<string[]> {
    const sessions = await admin.listAll({ tenant, pageSize: 1000 });
    const found = sessions.filter(({ session }) => timestampMs(session!.lastAccessTime!) >= ms);
    assert.ok(found.length > 0);
    return found.map(({ session }) => session!.userId).toSorted();
  }

  const bigintText = (_: string, value: unknown) => (typeof value === "bigint" ? String(value) : value);
});

describe("CountSessions and ListTopUsers", { skip }, () => {
  test("count the live sessions of a tenant, and of all for the operator", async () => {
    const [one, two] = [admin.tenant("count one"), admin.tenant("count two")];
    for (let n = 0; n < 12; n++) await one.client.createSession({ userId: ["ada", "ada", "bob", "eve"][n % 4]! });
    const { session } = await two.client.createSession({ userId: "zoe" });
    const counts = async (client = admin.operator, tenant = "") =>
      Object.fromEntries(
        (await client.countSessions({ tenant })).tenants.map((each) => [each.tenant, Number(each.sessionCount)]),
      );
    assert.deepEqual(await counts(one.client), { "count one": 12 });
    assert.deepEqual(await counts(admin.operator, "count two"), { "count two": 1 });
    const all = await counts();
    assert.deepEqual([all["count one"], all["count two"]], [12, 1]);
    await two.client.deleteSession({ sessionId: session!.sessionId });
    assert.deepEqual(await counts(two.client), { "count two": 0 });
    assert.equal("count two" in (await counts()), false);

    const top = await one.client.listTopUsers({});
    const listed = top.users.map(({ tenant, userId, sessionCount }) => [tenant, userId, Number(sessionCount)]);
    assert.deepEqual(listed, [
      ["count one", "ada", 6],
      ["count one", "bob", 3],
      ["count one", "eve", 3],
    ]);
    assert.deepEqual(
      (await one.client.listTopUsers({ pageSize: 1 })).users.map(({ userId }) => userId),
      ["ada"],
    );
    const everywhere = await admin.operator.listTopUsers({ pageSize: 1000 });
    assert.ok(everywhere.users.some(({ tenant, userId }) => tenant === "count one" && userId === "eve"));
  });
});

describe("EndSessions", { skip }, () => {
  test("ends what the filter selects, audits and reports each end, and says how many", async () => {
    const acme = admin.tenant("end");
    const kept = await acme.client.createSession({ userId: "ada", labels: { app: "mail" } });
    for (let n = 0; n < 25; n++) await acme.client.createSession({ userId: `user ${n % 4}`, labels: { app: "shop" } });
    const filter = { labels: { app: "shop" } };
    const rehearsed = await acme.end({ filter, dryRun: true });
    assert.deepEqual([rehearsed.endedCount, rehearsed.examinedCount, rehearsed.done], [25n, 26n, true]);
    assert.equal(await acme.count(), 26);
    const request = { filter, reason: RevocationReason.POLICY, actor: "grace", note: "app closed" };
    const done = await acme.end(request);
    assert.deepEqual([done.endedCount, done.examinedCount, done.done], [25n, 26n, true]);
    assert.deepEqual(
      (await acme.client.listSessions({})).sessions.map(({ session }) => session!.sessionId),
      [kept.session!.sessionId],
    );
    assert.equal(await acme.count(), 1);
    const { events } = await acme.client.listAuditEvents({ userId: "user 1", types: [AuditEventType.REVOKED] });
    assert.equal(events.length, 6);
    for (const { principal, actor, note, revocationReason } of events) {
      assert.deepEqual(
        [principal, actor, note, revocationReason],
        ["end", "grace", "app closed", RevocationReason.POLICY],
      );
    }
    assert.deepEqual((await acme.end({ all: true })).endedCount, 1n);
    assert.equal(await acme.count(), 0);
  });

  test("ends the sessions of one sid, of some users, and those made before a time, with one call each", async () => {
    const acme = admin.tenant("one call");
    const old = await acme.client.createSession({ userId: "old" });
    await admin.authorities.nextMs();
    const { session } = await acme.client.createSecureSession({ userId: "ada", labels: { sid: "s1" } });
    for (const userId of ["bob", "eve", "eve"]) await acme.client.createSession({ userId });
    assert.equal((await acme.end({ filter: { labels: { sid: "s1" } } })).endedCount, 1n);
    assert.equal((await acme.end({ filter: { userIds: ["eve", "nobody"] } })).endedCount, 2n);
    assert.equal((await acme.end({ filter: { createdBefore: session!.createTime! } })).endedCount, 1n);
    assert.deepEqual(await usersOf(acme.name, {}), ["bob"]);
    assert.equal((await acme.client.validateSession({ sessionId: old.session!.sessionId })).verdict, Verdict.INVALID);
    await acme.end({ all: true });
  });

  test("refuses a filter without a condition, both selections, none, and the token of another run", async () => {
    const acme = admin.tenant("refused");
    await acme.client.createSession({ userId: "ada" });
    for (const request of [
      {},
      { filter: {} },
      { filter: { userIds: [], labels: {} } },
      { all: true, filter: { anonymous: true } },
    ]) {
      await assert.rejects(acme.end(request), { code: 3 });
    }
    const { resumeToken } = await acme.end({ all: true, dryRun: true });
    for (const token of [resumeToken, "x.y", "x"].filter((text) => text !== "")) {
      await assert.rejects(acme.end({ all: true, resumeToken: token }), { code: 3 });
    }
    assert.equal(await acme.count(), 1);
    await acme.end({ all: true });
  });

  test("goes on from its token, and spares sessions that were created after the run began", async () => {
    const acme = admin.tenant("resumes");
    for (let n = 0; n < 1200; n++) await acme.client.createSession({ userId: `user ${n}` });
    const aborted = new AbortController();
    const resumeToken = await new Promise<string>((resolve, reject) => {
      const run = async () => {
        for await (const progress of acme.progressOf({ all: true }, aborted.signal)) {
          assert.ok(progress.endedCount > 0n && progress.endedCount < 1200n && !progress.done);
          resolve(progress.resumeToken);
        }
      };
      run().catch(reject);
    });
    aborted.abort();
    const { session } = await acme.client.createSession({ userId: "late" });
    const second = await acme.end({ all: true, resumeToken });
    assert.ok(second.endedCount > 0n && second.endedCount < 1200n && second.done);
    assert.equal(await acme.count(), 1);
    assert.equal((await acme.client.validateSession({ sessionId: session!.sessionId })).verdict, Verdict.VALID);
    await acme.end({ all: true });
  });

  test("works while the store's memory is full", async () => {
    const acme = admin.tenant("full");
    for (let n = 0; n < 40; n++) await acme.client.createSession({ userId: `user ${n}` });
    await admin.authorities.control.configSet("maxmemory", "1");
    try {
      await assert.rejects(acme.client.createSession({ userId: "ada" }), { reason: "STORE_FULL" });
      assert.equal((await acme.client.listSessions({})).sessions.length, 40);
      assert.equal((await acme.end({ all: true })).endedCount, 40n);
    } finally {
      await admin.authorities.control.configSet("maxmemory", "0");
    }
    assert.equal(await acme.count(), 0);
  });
});

describe("the key of all tenants", { skip }, () => {
  test("lists and ends across tenants, or in the one that it names", async () => {
    const [one, two] = [admin.tenant("many one"), admin.tenant("many two")];
    for (let n = 0; n < 5; n++)
      for (const { client } of [one, two]) await client.createSession({ userId: `user ${n}`, labels: { app: "x" } });
    const filter = { labels: { app: "x" } };
    const listed = await admin.listAll({ filter, pageSize: 3 });
    assert.deepEqual(
      listed.map(({ tenant }) => tenant),
      [...Array(5).fill("many one"), ...Array(5).fill("many two")],
    );
    assert.equal((await admin.end({ tenant: "many one", filter })).endedCount, 5n);
    assert.equal((await admin.end({ filter })).endedCount, 5n);
    assert.equal((await two.count()) + (await one.count()), 0);
  });

  test("has no other method; and no other key may name a tenant", async () => {
    const denied = { code: 7, reason: "SCOPE_MISSING" };
    await assert.rejects(admin.operator.createSession({ userId: "ada" }), denied);
    await assert.rejects(admin.operator.listUserSessions({ userId: "ada" }), denied);
    const acme = admin.tenant("named");
    for (const tenant of ["named", "list", "*"]) {
      await assert.rejects(acme.client.listSessions({ tenant }), denied);
      await assert.rejects(acme.client.countSessions({ tenant }), denied);
      await assert.rejects(acme.client.listTopUsers({ tenant }), denied);
      await assert.rejects(acme.end({ tenant, all: true }), { code: 7 });
    }
    await assert.rejects(admin.withoutScope.countSessions({}), denied);
  });
});
