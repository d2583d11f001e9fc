// EndSessions races against creates, accesses, changes and regenerations: what existed before the run is gone after it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startAdmin, type Admin } from "../helpers/admin.ts";
import { race, rivals, valueOf } from "../helpers/races.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { rounds } from "../helpers/rounds.ts";

const ROUNDS = rounds({ quick: 150, all: 2_000, variable: "RACE_ROUNDS" });
const skip = redisServerMissing();

let admin: Admin;
let acme: ReturnType<Admin["tenant"]>;

before(async () => {
  if (skip) return;
  admin = await startAdmin(["acme", "everybody"], { touchIntervalMs: 0 });
  acme = admin.tenant("acme");
});
after(async () => {
  if (skip) return;
  await admin.authorities.assertStoreSound();
  await admin.authorities.close();
});

const login = async (userId: string) => (await acme.client.createSession({ userId })).session!.sessionId;
const endUser = (userId: string) => acme.end({ filter: { userIds: [userId] } });
const idsOf = async (userId: string) =>
  (await acme.client.listUserSessions({ userId })).sessions.map(({ sessionId }) => sessionId);

test("EndSessions against a create: only the new session may live on", { skip }, async () => {
  await race(ROUNDS, async (index) => {
    const userId = `create-${index}`;
    await login(userId);
    const [ended, created] = await rivals(
      () => endUser(userId),
      () => login(userId),
    );
    const left = await idsOf(userId);
    assert.equal(Number(valueOf(ended).endedCount) + left.length, 2);
    assert.ok(left.every((id) => id === valueOf(created)));
    assert.equal(await auditedEnds(userId), Number(valueOf(ended).endedCount));
  });
});

test("EndSessions against accesses and changes: the session ends, once", { skip }, async () => {
  await race(ROUNDS, async (index) => {
    const userId = `access-${index}`;
    const sessionId = await login(userId);
    const [ended] = await rivals(
      () => endUser(userId),
      () => acme.client.getSession({ sessionId }).catch(() => undefined),
      () => acme.client.setSessionFields({ sessionId, fields: { a: "b" } }).catch(() => undefined),
      () => acme.client.getSession({ sessionId }).catch(() => undefined),
    );
    assert.equal(valueOf(ended).endedCount, 1n);
    assert.deepEqual(await idsOf(userId), []);
    assert.equal(await auditedEnds(userId), 1);
  });
});

test("EndSessions against a regeneration: the session ends under either id", { skip }, async () => {
  await race(ROUNDS, async (index) => {
    const userId = `regenerate-${index}`;
    const sessionId = await login(userId);
    const grace = index % 2 === 0 ? undefined : { seconds: 10n };
    const [ended] = await rivals(
      () => endUser(userId),
      () => acme.client.regenerateSession({ sessionId, ...(grace && { grace }) }).catch(() => undefined),
    );
    assert.equal(valueOf(ended).endedCount, 1n);
    assert.deepEqual(await idsOf(userId), []);
    await assert.rejects(acme.client.getSession({ sessionId }), { reason: "SESSION_NOT_FOUND" });
  });
});

test("EndSessions of a tenant whose sessions are all regenerated meanwhile leaves none", { skip }, async () => {
  const everybody = admin.tenant("everybody");
  const create = async (userId: string) => (await everybody.client.createSession({ userId })).session!.sessionId;
  const ids = await Promise.all(Array.from({ length: 30 }, (_, n) => create(`user ${n % 6}`)));
  const regenerate = async (sessionId: string): Promise<void> => {
    const next = await everybody.client.regenerateSession({ sessionId }).catch(() => undefined);
    if (next) await regenerate(next.session!.sessionId);
  };
  const [ended] = await Promise.all([everybody.end({ all: true }), ...ids.map(regenerate)]);
  assert.equal(ended.endedCount, 30n);
  assert.equal(await everybody.count(), 0);
});

async function auditedEnds(userId: string): Promise<number> {
  const { events } = await acme.client.listAuditEvents({ userId, types: [7] });
  return events.length;
}
