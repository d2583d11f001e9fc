// The count and the index of a tenant's sessions in the store: exact, in the order of creation, and listed in pages that survive
// all changes of the sessions.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { partitionOfOwner, ownerOf } from "../../src/domain/owner.ts";
import { tenantKeys } from "../../src/store/keys.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { rounds } from "../helpers/rounds.ts";
import { callOf, listInPages, startTenantStore, type TenantStore } from "../helpers/tenant_store.ts";

const skip = redisServerMissing();
const HISTORIES = rounds({ quick: 1, all: 8, variable: "TENANT_INDEX_RUNS" });

const NEWEST = { order: "newest", userIds: undefined } as const;
const NOTHING_SAID = { actor: "", note: "" };

let store: TenantStore;

before(async () => {
  if (!skip) store = await startTenantStore();
});
after(async () => {
  if (skip) return;
  const faults = await store.scan();
  await store.close();
  assert.deepEqual(faults, []);
});

const count = (tenant: string) => store.indexed.admin.count(tenant, callOf(tenant));

function pick<T>(items: readonly T[]): T {
  return items[Math.floor(Math.random() * items.length)]!;
}

/** Creates sessions one after the other; returns their ids in this order. */
async function createMany(tenant: string, howMany: number, users: number): Promise<string[]> {
  const ids: string[] = [];
  for (let n = 0; n < howMany; n++) ids.push(await store.indexed.create(tenant, `user ${n % users}`));
  return ids;
}

describe("a tenant's sessions", { skip }, () => {
  test("are counted and listed in the order of creation, of this tenant only", async () => {
    const tenant = "ACME: 50% {löwe}";
    const ids = await createMany(tenant, 300, 60);
    await createMany("other", 20, 5);
    assert.equal(await count(tenant), 300);
    for (const pageSize of [1000, 7]) {
      const newest = await listInPages(store.indexed, { tenant, pageSize });
      assert.deepEqual(newest, { ids: ids.toReversed(), created: newest.created, ordered: true });
      const oldest = await listInPages(store.indexed, { tenant, order: "oldest", pageSize });
      assert.deepEqual(oldest.ids, ids);
    }
    assert.deepEqual(await store.indexed.admin.tenants(callOf("")), [tenant, "other"]);
    assert.equal(await store.indexed.admin.count(undefined, callOf("")), 320);
    assert.equal(await count("nobody"), 0);
    assert.deepEqual((await listInPages(store.indexed, { tenant: "nobody", pageSize: 5 })).ids, []);
  });

  test("have times of creation that differ, so that their order is exact", async () => {
    await Promise.all(Array.from({ length: 200 }, () => store.indexed.create("times", "one user")));
    const { created } = await listInPages(store.indexed, { tenant: "times", pageSize: 1000 });
    assert.equal(new Set(created).size, 200);
  });

  test("leave count and index in every way in which a session can end", async () => {
    const tenant = "ends";
    const device = { deviceId: "phone" };
    const kept = await store.indexed.create(tenant, "ada");
    await store.remove(tenant, await store.indexed.create(tenant, "ada"));
    await store.indexed.create(tenant, "ada", device);
    const replacing = await store.indexed.create(tenant, "ada", device);
    assert.deepEqual((await listInPages(store.indexed, { tenant, pageSize: 9 })).ids, [replacing, kept]);
    await store.indexed.devices.revoke("ada", "phone", NOTHING_SAID, callOf(tenant));
    assert.equal(await count(tenant), 1);
    await store.indexed.create(tenant, "ada");
    const evicting = await store.indexed.create(tenant, "ada", { maxSessions: 1, onExceed: "evict" });
    assert.deepEqual((await listInPages(store.indexed, { tenant, pageSize: 9 })).ids, [evicting]);
    await store.indexed.create(tenant, "bob");
    await store.indexed.sessions.removeAllOfUser("ada", "", NOTHING_SAID, callOf(tenant));
    await store.indexed.sessions.removeAllOfUser("bob", "", NOTHING_SAID, callOf(tenant));
    assert.equal(await count(tenant), 0);
    assert.ok(!(await store.indexed.admin.tenants(callOf(""))).includes(tenant));
    const keys = await store.control.keys(`sa:{*}:[cmn]:${tenant}*`);
    assert.deepEqual(keys, [], "a tenant without sessions has no keys");
  });

  test("are not listed once a timeout has ended them, and not counted once the sweep has recorded it", async () => {
    const tenant = "expired";
    const ids = await createMany(tenant, 500, 4);
    for (const [n, id] of ids.entries()) if (n % 10 !== 0) await store.expireNow(tenant, `user ${n % 4}`, id);
    const alive = ids.filter((_, n) => n % 10 === 0);
    assert.deepEqual((await listInPages(store.indexed, { tenant, order: "oldest", pageSize: 20 })).ids, alive);
    assert.equal(await count(tenant), 500);
    await store.sweepAll();
    assert.equal(await count(tenant), 50);
    assert.deepEqual((await listInPages(store.indexed, { tenant, pageSize: 20 })).ids, alive.toReversed());
  });
});

describe("a listing in pages", { skip }, () => {
  test("has each session that is alive all the time exactly once, while others come and go", async () => {
    for (const [index, order] of (["newest", "oldest"] as const).entries()) {
      const tenant = `churn-${order}`;
      const ids = await createMany(tenant, 200, 40);
      const names = new Map(ids.map((id, n) => [id, n]));
      const doomed = new Set(ids.filter((_, n) => n % 4 === index));
      const listed = await listInPages(store.indexed, { tenant, order, pageSize: 10 }, async () => {
        for (let n = 0; n < 5; n++) {
          const [id, name] = pick([...names].filter(([each]) => !doomed.has(each)));
          names.delete(id);
          names.set(await store.regenerate(tenant, id, n * 100), name);
          const gone = [...doomed][n];
          if (gone !== undefined && doomed.delete(gone)) {
            names.delete(gone);
            await store.remove(tenant, gone);
          }
        }
        if (names.size < 260) await store.indexed.create(tenant, `user ${names.size % 40}`);
      });
      // A session was listed under the id that it had then. The place of creation shows which session it was.
      const survivors = new Set([...names].filter(([id]) => !doomed.has(id)).map(([, name]) => name));
      const places = new Map<number, number>();
      const all = await listInPages(store.indexed, { tenant, order, pageSize: 1000 });
      for (const [i, id] of all.ids.entries()) if (names.has(id)) places.set(all.created[i]!, names.get(id)!);
      const found = listed.created.map((created) => places.get(created)).filter((name) => name !== undefined);
      assert.equal(new Set(found).size, found.length, "a session was listed twice");
      for (const name of survivors) assert.ok(found.includes(name), `session ${name} was not listed`);
    }
  });

  test("goes on from its position, and refuses the text of no position", async () => {
    const tenant = "positions";
    const [oldest, newest] = await createMany(tenant, 2, 2);
    const list = await store.indexed.admin.list(tenant, NEWEST, "", callOf(tenant));
    const { value } = await list.sessions.next();
    assert.equal(value!.stored.record.sessionId, newest);
    assert.match(value!.position, /^[A-Za-z0-9_-]+$/);
    await store.remove(tenant, newest!);
    const rest = await store.indexed.admin.list(tenant, NEWEST, value!.position, callOf(tenant));
    assert.equal((await rest.sessions.next()).value!.stored.record.sessionId, oldest);
    for (const position of ["o", "x", "w", "oAAAA", "________________", "wAA", `o${"_".repeat(12)}`]) {
      await assert.rejects(store.indexed.admin.list(tenant, NEWEST, position, callOf(tenant)), /page_token/);
    }
  });
});

describe("without the index", { skip }, () => {
  test("sessions are counted and listed, exactly once, in no order", async () => {
    const tenant = "unindexed";
    const ids: string[] = [];
    for (let n = 0; n < 300; n++) ids.push(await store.unindexed.create(tenant, `user ${n < 120 ? "many" : n % 50}`));
    assert.equal(await store.unindexed.admin.count(tenant, callOf(tenant)), 300);
    assert.equal((await store.control.keys(`sa:{*}:n:${tenant}*`)).length, 0);
    const listed = await listInPages(store.unindexed, { tenant, pageSize: 7 });
    assert.equal(listed.ordered, false);
    assert.deepEqual(listed.ids.toSorted(), ids.toSorted());
    const moved = await listInPages(store.unindexed, { tenant, pageSize: 50 }, async () => {
      for (let n = 0; n < 3; n++) {
        const at = Math.floor(Math.random() * ids.length);
        ids[at] = await store.regenerate(tenant, ids[at]!);
      }
    });
    assert.equal(new Set(moved.created).size, 300);
    assert.equal(moved.created.length, 300);
  });

  test("a list has an order again once the sessions that the index lacks have ended", async () => {
    const tenant = "switched on";
    const [before, expiring] = [
      await store.unindexed.create(tenant, "ada"),
      await store.unindexed.create(tenant, "ada"),
    ];
    const indexed = await createMany(tenant, 10, 3);
    assert.equal((await listInPages(store.indexed, { tenant, pageSize: 50 })).ordered, false);
    const regenerated = await store.regenerate(tenant, before);
    assert.equal(await count(tenant), 12);
    const { ids } = await listInPages(store.indexed, { tenant, pageSize: 50 });
    assert.deepEqual(ids.toSorted(), [regenerated, expiring, ...indexed].toSorted());
    await store.remove(tenant, regenerated);
    await store.expireNow(tenant, "ada", expiring);
    await store.sweepAll();
    const listed = await listInPages(store.indexed, { tenant, order: "oldest", pageSize: 50 });
    assert.deepEqual([listed.ordered, listed.ids], [true, indexed]);
  });
});

describe("the index of one partition", { skip }, () => {
  test("keeps its order when the clock steps back", async () => {
    const tenant = "clock";
    const first = await store.indexed.create(tenant, "ada");
    const partition = partitionOfOwner(ownerOf(tenant, "ada"));
    const { index } = tenantKeys(partition, tenant);
    // The session was created in an hour, before the clock stepped back.
    const future = Buffer.alloc(8);
    future.writeDoubleBE(Date.now() + 3_600_000);
    await store.control.sendCommand(["SETRANGE", `${index}:1`, "0", future] as never);
    const later: string[] = [];
    for (let n = 0; n < 300; n++) later.push(await store.indexed.create(tenant, "ada"));
    const { ids } = await listInPages(store.indexed, { tenant, order: "oldest", pageSize: 11 });
    assert.deepEqual(ids, [first, ...later]);
    const last = later.at(-1)!;
    const renamed = await store.regenerate(tenant, last);
    for (const id of later.slice(0, 250)) await store.remove(tenant, id);
    const rest = await listInPages(store.indexed, { tenant, pageSize: 11 });
    assert.deepEqual(rest.ids, [renamed, ...later.slice(250, -1).toReversed(), first]);
    assert.deepEqual(await store.scan(), []);
  });

  test(`agrees with a model in ${HISTORIES} histories of creates, ends, expiries and regenerations`, async () => {
    for (let run = 0; run < HISTORIES; run++) {
      const tenant = `history-${run}`;
      const model: { id: string; user: string }[] = [];
      // Waves of growth and decline, so that segments fill, empty and merge.
      for (let n = 0; n < 1500; n++) {
        const grows = Math.floor(n / 400) % 2 === 0;
        if (model.length === 0 || Math.random() < (grows ? 0.9 : 0.15)) {
          const user = `user ${n % 3}`;
          model.push({ id: await store.indexed.create(tenant, user), user });
          continue;
        }
        const at = Math.floor(Math.random() ** 2 * model.length);
        const { id, user } = model[at]!;
        if (n % 3 === 0) model[at]!.id = await store.regenerate(tenant, id);
        else if (n % 3 === 1 && (await store.remove(tenant, id))) model.splice(at, 1);
        else {
          await store.expireNow(tenant, user, id);
          model.splice(at, 1);
          if (n % 30 === 2) await store.sweepAll();
        }
        if (n % 100 !== 0) continue;
        const order = n % 200 === 0 ? "oldest" : "newest";
        const { ids } = await listInPages(store.indexed, { tenant, order, pageSize: 1 + (n % 40) });
        const expected = model.map((session) => session.id);
        assert.deepEqual(ids, order === "oldest" ? expected : expected.toReversed());
      }
      await store.sweepAll();
      assert.equal(await count(tenant), model.length);
      assert.deepEqual(await store.scan(), []);
    }
  });
});
