// Subscriptions of one tenant with equal filters form one group, and no others do.

import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidationReason } from "../../gen/session/v1/session_pb.ts";
import { InvalidationKind } from "../../gen/session/v1/watch_pb.ts";
import { ownerOf, ownerPrefixOf, partitionOfOwner } from "../../src/domain/owner.ts";
import { createFilterGroups, partitionsIn, type WatchFilter } from "../../src/watch/filters.ts";
import { createSubscription } from "../../src/watch/subscription.ts";

const { REVOKED, EXPIRED } = InvalidationReason;
const { CHANGED } = InvalidationKind;

type FilterInit = {
  users?: string[];
  sessions?: string[];
  kinds?: InvalidationKind[];
  reasons?: InvalidationReason[];
  hasReferences?: boolean;
};

function filterOf(tenant: string, init: FilterInit): WatchFilter {
  const { users = [], sessions = [], kinds = [], reasons = [], hasReferences = false } = init;
  return {
    ownerPrefix: ownerPrefixOf(tenant),
    owners: new Set(users.map((user) => ownerOf(tenant, user))),
    sessionIds: new Set(sessions),
    kinds: new Set(kinds),
    reasons: new Set(reasons),
    hasReferences,
  };
}

test("filters that differ only in order share a group; any other difference makes another group", () => {
  const groups = createFilterGroups();
  const join = (tenant: string, init: FilterInit) => groups.join(createSubscription(), tenant, filterOf(tenant, init));
  const all = join("acme", {});
  assert.equal(join("acme", {}), all);
  assert.equal(all.subscriptions.size, 2);
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
    // The numbers of REVOKED and CHANGED are the same.
    join("acme", { kinds: [CHANGED] }),
    join("acme", { hasReferences: true }),
  ];
  const distinct = new Set([all, two, ...others]);
  assert.equal(distinct.size, 11);
  assert.deepEqual(new Set(groups.all()), distinct);
});

test("a group is removed with its last subscription", () => {
  const groups = createFilterGroups();
  const filter = filterOf("acme", { users: ["a"] });
  const [first, second] = [createSubscription(), createSubscription()];
  const group = groups.join(first, "acme", filter);
  groups.join(second, "acme", filter);
  groups.leave(first, group);
  assert.deepEqual([...groups.all()], [group]);
  assert.deepEqual([...group.subscriptions], [second]);
  groups.leave(second, group);
  assert.deepEqual([...groups.all()], []);
  // A subscription may leave twice, as when a stream ends twice. That must not remove the new group with the same filter.
  const again = groups.join(first, "acme", filter);
  groups.leave(second, group);
  assert.deepEqual([...groups.all()], [again]);
});

test("a filter can match in the partitions of its users and sessions only", () => {
  const every = Array.from({ length: 256 }, (_, partition) => partition);
  const partitionOf = (user: string) => partitionOfOwner(ownerOf("acme", user));
  const sessionIn = (partition: number) => Buffer.alloc(21, partition).toString("base64url");
  const partitions = (init: FilterInit) => partitionsIn(filterOf("acme", init), every);
  assert.deepEqual(partitions({ reasons: [REVOKED], kinds: [CHANGED] }), every);
  assert.deepEqual(new Set(partitions({ users: ["a", "b"] })), new Set(["a", "b"].map(partitionOf)));
  assert.deepEqual(partitions({ sessions: [sessionIn(7), "not an id"] }), [7]);
  const own = partitionOf("a");
  assert.deepEqual(partitions({ users: ["a"], sessions: [sessionIn(own), sessionIn((own + 1) % 256)] }), [own]);
});
