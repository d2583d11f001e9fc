// Filters of watches. Subscriptions with equal filters form a group, so that each change is matched once for all of them.

import { hash } from "node:crypto";
import type { InvalidationReason } from "../../gen/session/v1/session_pb.ts";
import { partitionOfOwner } from "../domain/owner.ts";
import { partitionOfSessionId } from "../domain/session_id.ts";
import type { Change } from "../store/watch_change_log.ts";
import { InvalidationKind } from "../../gen/session/v1/watch_pb.ts";
import { kindOf } from "./messages.ts";
import { invalidationReasonOf } from "./reasons.ts";
import type { Subscription } from "./subscription.ts";

/** Which changes a subscription receives, and in which form. An empty set does not restrict. */
export type WatchFilter = {
  /** The common prefix of all owners of the tenant. */
  readonly ownerPrefix: string;
  readonly owners: ReadonlySet<string>;
  readonly sessionIds: ReadonlySet<string>;
  readonly kinds: ReadonlySet<InvalidationKind>;
  /** Of ends only. */
  readonly reasons: ReadonlySet<InvalidationReason>;
  /** True if the watcher receives references in place of the ids that open sessions. */
  readonly hasReferences: boolean;
};

export type FilterGroup = {
  readonly key: string;
  readonly tenant: string;
  readonly filter: WatchFilter;
  readonly subscriptions: Set<Subscription>;
};

export function createFilterGroups() {
  const groups = new Map<string, FilterGroup>();
  return {
    all: () => groups.values(),
    /** Adds a subscription to the group of its tenant and filter, and creates the group if there is none. */
    join(subscription: Subscription, tenant: string, filter: WatchFilter): FilterGroup {
      const key = keyOf(filter);
      let group = groups.get(key);
      if (group === undefined) groups.set(key, (group = { key, tenant, filter, subscriptions: new Set() }));
      group.subscriptions.add(subscription);
      return group;
    },
    /** Removes a subscription, and the group with the last one. */
    leave(subscription: Subscription, group: FilterGroup): void {
      group.subscriptions.delete(subscription);
      if (group.subscriptions.size === 0 && groups.get(group.key) === group) groups.delete(group.key);
    },
  };
}

/** Returns the same short key for filters that match the same changes and send them in the same form. */
function keyOf({ ownerPrefix, owners, sessionIds, kinds, reasons, hasReferences }: WatchFilter): string {
  const sets = [owners, sessionIds, kinds, reasons].map((set) => [...set].sort());
  return hash("sha256", JSON.stringify([ownerPrefix, hasReferences, ...sets]));
}

/** Returns those of the partitions in which the filter can match a change. */
export function partitionsIn({ owners, sessionIds }: WatchFilter, partitions: readonly number[]): readonly number[] {
  if (owners.size === 0 && sessionIds.size === 0) return partitions;
  const ofOwners = new Set([...owners].map(partitionOfOwner));
  const ofSessions = new Set([...sessionIds].map(partitionOfSessionId));
  return partitions.filter(
    (partition) =>
      (owners.size === 0 || ofOwners.has(partition)) && (sessionIds.size === 0 || ofSessions.has(partition)),
  );
}

export function matches(filter: WatchFilter, change: Change): boolean {
  const { ownerPrefix, owners, sessionIds, kinds, reasons } = filter;
  const kind = kindOf(change);
  return (
    change.owner.startsWith(ownerPrefix) &&
    (owners.size === 0 || owners.has(change.owner)) &&
    (sessionIds.size === 0 || sessionIds.has(change.sessionId)) &&
    (kinds.size === 0 || (kind !== undefined && kinds.has(kind))) &&
    (reasons.size === 0 || kind !== InvalidationKind.ENDED || reasons.has(invalidationReasonOf(change.reason)))
  );
}
