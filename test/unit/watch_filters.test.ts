// Watchers that want the same are one group, and nothing else is.

import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidationReason } from "../../gen/session/v1/session_pb.ts";
import { ownerOf, ownerPrefixOf } from "../../src/domain/owner.ts";
import { createFilterGroups, type WatchFilter } from "../../src/watch/filters.ts";
import { createSubscription } from "../../src/watch/subscription.ts";

const { REVOKED, EXPIRED } = InvalidationReason;

type Wanted = { users?: string[]; sessions?: string[]; reasons?: InvalidationReason[] };

function filterOf(tenant: string, { users = [], sessions = [], reasons = [] }: Wanted): WatchFilter {
  const owners = new Set(users.map((user) => ownerOf(tenant, user)));
  return { ownerPrefix: ownerPrefixOf(tenant), owners, sessionIds: new Set(sessions), reasons: new Set(reasons) };
}

test("the order of what a watcher names makes no difference, and anything else does", () => {
  const groups = createFilterGroups();
  const join = (tenant: string, wanted: Wanted) =>
    groups.join(createSubscription(""), tenant, filterOf(tenant, wanted));
  const all = join("acme", {});
  assert.equal(join("acme", {}), all);
  assert.equal(all.watchers.size, 2);
  const two = join("acme", { users: ["a", "b"], reasons: [REVOKED, EXPIRED] });
  assert.equal(join("acme", { users: ["b", "a"], reasons: [EXPIRED, REVOKED] }), two);
  const others = [
    join("globex", {}),
    join("globex", { users: ["a", "b"], reasons: [REVOKED, EXPIRED] }),
    join("acme", { users: ["a", "b"] }),
    join("acme", { users: ["a"] }),
    join("acme", { sessions: ["a"] }),
    join("acme", { sessions: ["acme:a"] }),
    join("acme", { reasons: [REVOKED] }),
  ];
  const distinct = new Set([all, two, ...others]);
  assert.equal(distinct.size, 9);
  assert.deepEqual(new Set(groups.all()), distinct);
});

test("a group goes with its last watcher", () => {
  const groups = createFilterGroups();
  const filter = filterOf("acme", { users: ["a"] });
  const [first, second] = [createSubscription("1"), createSubscription("2")];
  const group = groups.join(first, "acme", filter);
  groups.join(second, "acme", filter);
  groups.leave(first, group);
  assert.deepEqual([...groups.all()], [group]);
  assert.deepEqual([...group.watchers], [second]);
  groups.leave(second, group);
  assert.deepEqual([...groups.all()], []);
  // Twice, as when a stream ends twice; nobody who came meanwhile loses the group.
  const again = groups.join(first, "acme", filter);
  groups.leave(second, group);
  assert.deepEqual([...groups.all()], [again]);
});
