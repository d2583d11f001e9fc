// Recorded histories: the acknowledged writes, the changes in the store's logs, and the events that each watcher received.

import { InvalidationReasonSchema } from "../../gen/session/v1/session_pb.ts";
import { InvalidationKind, type Invalidation } from "../../gen/session/v1/watch_pb.ts";
import type { Position } from "../../src/domain/position.ts";
import { partitionOfSessionId } from "../../src/domain/session_id.ts";
import type { StreamRecord } from "../helpers/watch_client.ts";

/** A change that a call acknowledged. All times are on the clock of performance.now(). */
export type Write = {
  readonly sessionId: string;
  readonly userId: string;
  /** As the store names it: `deleted`, `changed`. */
  readonly reason: string;
  /** Only for `changed`, which may happen to a session many times. */
  readonly version?: bigint | undefined;
  readonly startMs: number;
  readonly ackedMs: number;
};

/** A change as it is in the store's log. */
export type KnownChange = {
  readonly id: string;
  readonly partition: number;
  readonly epoch: number;
  readonly seq: number;
  readonly sessionId: string;
  readonly userId: string;
  /** As the store names it; `created` invalidates nothing. */
  readonly reason: string;
  readonly version: bigint;
};

export type Filter = {
  readonly userIds: readonly string[];
  readonly sessionIds: readonly string[];
  readonly reasons: readonly string[];
};

export type WatcherRecord = { readonly name: string; readonly filter: Filter; readonly streams: StreamRecord[] };

export type History = {
  readonly seed: number;
  /** The names of the faults, for failure messages. */
  readonly faults: string[];
  readonly writes: Write[];
  readonly known: Map<string, KnownChange>;
  readonly watchers: WatcherRecord[];
  readonly decode: (position: string) => Position;
};

/** Parses a change from the log or the channel. src/store/lua/includes/change_log.lua writes it. */
export function parseKnown(change: string): KnownChange {
  const [id = "", reason = "", sessionId = "", owner = "", version = "0"] = change.split(" ");
  const [epoch, seq] = id.split("-").map(Number) as [number, number];
  const partition = partitionOfSessionId(sessionId)!;
  return {
    id: `${partition}-${epoch}-${seq}`,
    partition,
    epoch,
    seq,
    sessionId,
    userId: decodeURIComponent(owner.slice(owner.indexOf(":") + 1)),
    reason,
    version: BigInt(version),
  };
}

export function matches(filter: Filter, change: Pick<KnownChange, "userId" | "sessionId" | "reason">): boolean {
  return (
    change.reason !== "created" &&
    (filter.userIds.length === 0 || filter.userIds.includes(change.userId)) &&
    (filter.sessionIds.length === 0 || filter.sessionIds.includes(change.sessionId)) &&
    (filter.reasons.length === 0 || filter.reasons.includes(change.reason))
  );
}

/** Returns a key that a write and its invalidation share. */
export function writeKey(change: Pick<Write, "sessionId" | "reason" | "version">): string {
  const version = change.reason === "changed" ? ` ${change.version}` : "";
  return `${change.sessionId} ${change.reason}${version}`;
}

/** Returns what the store names the reason of an invalidation. */
export function reasonOf({ kind, reason }: Invalidation): string {
  if (kind === InvalidationKind.CHANGED) return "changed";
  return InvalidationReasonSchema.value[reason]!.localName.toLowerCase();
}

/** Returns a history as JSON, to investigate a failure. */
export function historyText(history: History, violations: readonly string[]): string {
  const plain = (_key: string, value: unknown) =>
    typeof value === "bigint" ? String(value) : value instanceof Map ? [...value.entries()] : value;
  const { seed, faults, writes, known, watchers } = history;
  return JSON.stringify({ seed, violations, faults, writes, known: [...known.values()], watchers }, plain, 1);
}
