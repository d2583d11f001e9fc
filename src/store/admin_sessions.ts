// The sessions of all users of a tenant: how many there are, and lists of them.

import type { CallDeadline } from "../domain/call.ts";
import { PARTITION_COUNT } from "../domain/owner.ts";
import type { StoreReply } from "./connection/connection.ts";
import type { StoreDependencies } from "./dependencies.ts";
import { tenantKeys, tenantSetKey } from "./keys.ts";
import type { ListOrder } from "./session_lists.ts";
import type { TenantSession } from "./stored_session.ts";
import { decodeIndexPosition, mergePartitions } from "./tenant_index.ts";
import { decodeWalkPosition, walkUsers } from "./tenant_walk.ts";

/** A list of a tenant's live sessions. A session that is alive during the whole listing is in it exactly once. */
export type TenantSessionList = {
  /** False if the sessions are in no particular order, because the tenant's index lacks some of them. */
  readonly ordered: boolean;
  /** Reads on as the sessions are taken. */
  readonly sessions: AsyncGenerator<TenantSession, void, undefined>;
};

export type ListOptions = {
  readonly order: ListOrder;
  /** Undefined: all users of the tenant. The list of some users has no order. */
  readonly userIds: readonly string[] | undefined;
};

const PARTITIONS = Array.from({ length: PARTITION_COUNT }, (_, partition) => partition);

export type AdminSessionStore = ReturnType<typeof createAdminSessionStore>;

export function createAdminSessionStore({ connection, scripts, settings }: StoreDependencies) {
  /** Reads strings, one of each partition: by one MGET on a single node, by pipelined GETs in a cluster. */
  async function readOfEach(keys: readonly string[], call: CallDeadline): Promise<readonly StoreReply[]> {
    if (connection.url.kind === "cluster") {
      return Promise.all(keys.map((key) => connection.send(key, ["GET", key], call)));
    }
    return (await connection.send(keys[0]!, ["MGET", ...keys], call)) as StoreReply[];
  }

  async function sumOf(which: "count" | "unindexed", tenant: string, call: CallDeadline): Promise<number> {
    const keys = PARTITIONS.map((partition) => tenantKeys(partition, tenant)[which]);
    return (await readOfEach(keys, call)).reduce<number>((sum, reply) => sum + Number(reply ?? 0), 0);
  }

  /** Returns the tenants that have sessions, in the order of their names. */
  async function tenants(call: CallDeadline): Promise<string[]> {
    const sets = await Promise.all(
      PARTITIONS.map((partition) => {
        const key = tenantSetKey(partition);
        return connection.send(key, ["SMEMBERS", key], call) as Promise<Buffer[]>;
      }),
    );
    return [...new Set(sets.flat().map((name) => decodeURIComponent(String(name))))].toSorted();
  }

  /**
   * Returns the number of live sessions of a tenant (undefined: of all), including those whose timeout has passed and that
   * the sweep has not recorded, which it does within 5 s.
   */
  async function count(tenant: string | undefined, call: CallDeadline): Promise<number> {
    const counted = tenant === undefined ? await tenants(call) : [tenant];
    const counts = await Promise.all(counted.map((each) => sumOf("count", each, call)));
    return counts.reduce((sum, each) => sum + each, 0);
  }

  /**
   * Lists the live sessions of a tenant after a position (empty: all), without sliding their idle timeouts.
   *
   * @throws SessionError INVALID_REQUEST for a text that is no position.
   */
  async function list(tenant: string, { order, userIds }: ListOptions, position: string, call: CallDeadline) {
    const after = decodeIndexPosition(position);
    const isFirst = position === "" && userIds === undefined;
    const ordered = isFirst ? await isIndexed(tenant, call) : after !== undefined;
    const sessions = ordered
      ? mergePartitions(scripts, { tenant, order, after }, call)
      : walk(tenant, userIds, position, call);
    return { ordered, sessions } satisfies TenantSessionList as TenantSessionList;
  }

  /**
   * Lists the same sessions user by user, and only those of some users if they are given. A session whose id changes keeps
   * its place.
   *
   * @throws SessionError INVALID_REQUEST for a text that is no position.
   */
  function walk(tenant: string, userIds: readonly string[] | undefined, position: string, call: CallDeadline) {
    return walkUsers({ connection, scripts }, { tenant, userIds, after: decodeWalkPosition(position) }, call);
  }

  /** Returns whether the index has all sessions of the tenant: not if some were created while SA_TENANT_INDEX was false. */
  async function isIndexed(tenant: string, call: CallDeadline): Promise<boolean> {
    return settings.tenantIndex && (await sumOf("unindexed", tenant, call)) === 0;
  }

  return { count, tenants, list, walk };
}
