// Lists the sessions of a tenant in the order of creation: merges the indexes of all partitions.

import type { CallDeadline } from "../domain/call.ts";
import { PARTITION_COUNT } from "../domain/owner.ts";
import { tenantKeys } from "./keys.ts";
import type { Scripts } from "./scripts.ts";
import type { ListOrder } from "./session_lists.ts";
import { storedSessionFromReply, type StoredSession, type TenantSession } from "./stored_session.ts";

/** A place in the list: the `order` of an entry (includes/tenant_index.lua). Partitions come by number at the same order. */
export type IndexPosition = { readonly order: number; readonly partition: number };

type IndexListOptions = {
  readonly tenant: string;
  readonly order: ListOrder;
  /** Undefined: from the beginning. */
  readonly after: IndexPosition | undefined;
};

/** What was read of one partition, and where the next read begins: `edge` is an order, or empty for the beginning. */
type Lane = {
  readonly partition: number;
  readonly entries: { readonly order: number; readonly stored: StoredSession }[];
  edge: string;
  edgeIncluded: boolean;
  isAtEnd: boolean;
  /** How many sessions the next read asks for. */
  count: number;
};

/** The first read asks each partition for a few sessions, because a page needs few of most; later ones ask for more. */
const FIRST_COUNT = 2;
const MOST_COUNT = 32;
const PAGE_BYTES = 64 * 1024;
const POSITION = /^o([A-Za-z0-9_-]{12})$/;

/** Yields the live sessions of a tenant. A session keeps its place when it is regenerated. */
export async function* mergePartitions(
  scripts: Scripts,
  options: IndexListOptions,
  call: CallDeadline,
): AsyncGenerator<TenantSession, void, undefined> {
  const sign = options.order === "newest" ? -1 : 1;
  const lanes = Array.from({ length: PARTITION_COUNT }, (_, partition) => laneAfter(partition, options.after));
  for (;;) {
    // One round trip also fills the lanes that will soon be empty.
    const low = lanes.filter(({ entries, isAtEnd, count }) => !isAtEnd && entries.length <= Math.floor(count / 8));
    await Promise.all(low.map((lane) => fill(scripts, lane, options, call)));
    for (;;) {
      const lane = leadingLane(lanes, sign);
      if (lane === undefined) return;
      if (lane.entries.length === 0) break;
      const { order, stored } = lane.entries.shift()!;
      yield { stored, position: encodeIndexPosition({ order, partition: lane.partition }) };
    }
  }
}

function laneAfter(partition: number, after: IndexPosition | undefined): Lane {
  const edge = after === undefined ? "" : String(after.order);
  const edgeIncluded = after !== undefined && partition > after.partition;
  return { partition, entries: [], edge, edgeIncluded, isAtEnd: false, count: FIRST_COUNT };
}

/** Returns a lane that has to be filled, otherwise the one whose next session is next in the list; undefined at the end. */
function leadingLane(lanes: readonly Lane[], sign: 1 | -1): Lane | undefined {
  let leading: Lane | undefined;
  for (const lane of lanes) {
    const first = lane.entries[0];
    if (first === undefined) {
      if (!lane.isAtEnd) return lane;
    } else if (leading === undefined || (first.order - leading.entries[0]!.order) * sign < 0) {
      leading = lane;
    }
  }
  return leading;
}

async function fill(scripts: Scripts, lane: Lane, { tenant, order }: IndexListOptions, call: CallDeadline) {
  const key = tenantKeys(lane.partition, tenant).index;
  const limits = [String(lane.count), String(PAGE_BYTES)];
  const args = [encodeURIComponent(tenant), order, lane.edge, String(lane.edgeIncluded), ...limits];
  // The order that the reply has got to, then order, session_id and record of each session.
  const [edge, ...rest] = (await scripts.run("admin_sessions_page", [key], args, call)).values;
  for (let i = 0; i < rest.length; i += 3) {
    lane.entries.push({ order: Number(rest[i]), stored: storedSessionFromReply(rest.slice(i + 1, i + 3)) });
  }
  lane.edge = String(edge);
  lane.edgeIncluded = false;
  lane.isAtEnd = lane.edge === "";
  lane.count = Math.min(lane.count * 2, MOST_COUNT);
}

function encodeIndexPosition({ order, partition }: IndexPosition): string {
  const bytes = Buffer.alloc(9);
  bytes.writeDoubleBE(order);
  bytes[8] = partition;
  return `o${bytes.toString("base64url")}`;
}

/** Returns undefined for the text of another kind of position. */
export function decodeIndexPosition(text: string): IndexPosition | undefined {
  const bytes = Buffer.from(POSITION.exec(text)?.[1] ?? "", "base64url");
  const order = bytes.length === 9 ? bytes.readDoubleBE() : NaN;
  return Number.isFinite(order) ? { order, partition: bytes[8]! } : undefined;
}
