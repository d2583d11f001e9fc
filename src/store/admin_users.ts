// The users with the most sessions.

import type { CallDeadline } from "../domain/call.ts";
import { ownerPrefixOf, PARTITION_COUNT } from "../domain/owner.ts";
import type { StoreDependencies } from "./dependencies.ts";
import { partitionKeys } from "./keys.ts";

type OwnerCount = { readonly owner: string; readonly count: number };

const USERS_PER_SCRIPT = 500;
const PARTITIONS_AT_ONCE = 16;

export type AdminUserStore = ReturnType<typeof createAdminUserStore>;

export function createAdminUserStore({ scripts }: StoreDependencies) {
  /** Returns the `limit` owners of a tenant (undefined: of all) that have the most live sessions, most first. */
  async function top(tenant: string | undefined, limit: number, call: CallDeadline): Promise<OwnerCount[]> {
    const prefix = tenant === undefined ? "" : ownerPrefixOf(tenant);
    let best: OwnerCount[] = [];
    for (let first = 0; first < PARTITION_COUNT; first += PARTITIONS_AT_ONCE) {
      const minimum = best.length < limit ? 1 : best.at(-1)!.count;
      const partitions = Array.from({ length: PARTITIONS_AT_ONCE }, (_, i) => first + i);
      const found = await Promise.all(partitions.map((partition) => countUsers(partition, prefix, minimum, call)));
      best = [...best, ...found.flat()].toSorted(byCountThenOwner).slice(0, limit);
    }
    return best;
  }

  async function countUsers(partition: number, prefix: string, minimum: number, call: CallDeadline) {
    // A user may be read twice.
    const counts = new Map<string, number>();
    let cursor = "0";
    do {
      const args = [prefix, cursor, String(USERS_PER_SCRIPT), String(minimum)];
      const { values } = await scripts.run("admin_users_count", [...partitionKeys(partition)], args, call);
      cursor = String(values[0]);
      for (let i = 1; i < values.length; i += 2) counts.set(String(values[i]), Number(values[i + 1]));
    } while (cursor !== "0");
    return [...counts].map(([owner, count]) => ({ owner, count }));
  }

  return { top };
}

function byCountThenOwner(a: OwnerCount, b: OwnerCount): number {
  return b.count - a.count || (a.owner < b.owner ? -1 : 1);
}
