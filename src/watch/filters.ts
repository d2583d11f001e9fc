// The watchers by what they want to hear: whether a change is for them is decided once for all who want the same.

import { hash } from "node:crypto";
import { InvalidationReason } from "../../gen/session/v1/session_pb.ts";
import type { Change } from "../store/watch_change_log.ts";
import type { Subscription } from "./subscription.ts";

/** What a watcher wants to hear of; an empty set is everything. */
export type WatchFilter = {
  /** The owners of one tenant begin with this. */
  readonly ownerPrefix: string;
  readonly owners: ReadonlySet<string>;
  readonly sessionIds: ReadonlySet<string>;
  readonly reasons: ReadonlySet<InvalidationReason>;
};

export type FilterGroup = {
  readonly key: string;
  readonly tenant: string;
  readonly filter: WatchFilter;
  readonly watchers: Set<Subscription>;
};

export type FilterGroups = {
  all(): Iterable<FilterGroup>;
  /** Adds a watcher to those of this tenant that want the same. */
  join(watcher: Subscription, tenant: string, filter: WatchFilter): FilterGroup;
  leave(watcher: Subscription, group: FilterGroup): void;
};

export function createFilterGroups(): FilterGroups {
  const groups = new Map<string, FilterGroup>();
  return {
    all: () => groups.values(),
    join(watcher, tenant, filter) {
      const key = keyOf(filter);
      let group = groups.get(key);
      if (group === undefined) groups.set(key, (group = { key, tenant, filter, watchers: new Set() }));
      group.watchers.add(watcher);
      return group;
    },
    leave(watcher, group) {
      group.watchers.delete(watcher);
      if (group.watchers.size === 0 && groups.get(group.key) === group) groups.delete(group.key);
    },
  };
}

/** The same for filters that want the same; short, whatever they name. */
function keyOf({ ownerPrefix, owners, sessionIds, reasons }: WatchFilter): string {
  return hash("sha256", JSON.stringify([ownerPrefix, ...[owners, sessionIds, reasons].map((set) => [...set].sort())]));
}

/** Whether a watcher with this filter is to hear of a change. */
export function matches(filter: WatchFilter, change: Change): boolean {
  const { ownerPrefix, owners, sessionIds, reasons } = filter;
  return (
    change.owner.startsWith(ownerPrefix) &&
    (owners.size === 0 || owners.has(change.owner)) &&
    (sessionIds.size === 0 || sessionIds.has(change.sessionId)) &&
    (reasons.size === 0 || reasons.has(reasonOf(change)!))
  );
}

// The store's name of a reason is the enum's in lower case; the log tells of creations too.
export function reasonOf(change: Change): InvalidationReason | undefined {
  return InvalidationReason[change.reason.toUpperCase() as keyof typeof InvalidationReason];
}
