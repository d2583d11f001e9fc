// The cache: answers that may be served from memory, as long as nobody has said otherwise.
//
// An entry is served only while now < safe until (the lease, which the watch proves) and now < its own deadline, and it is
// only stored if nothing newer than the call that filled it has been heard of its session.

import type { Session } from "../../gen/session/v1/session_pb.ts";
import { nowMs } from "./clock.ts";

type Entry = {
  readonly session: Session;
  /** All times are of nowMs(). */
  readonly deadlineMs: number;
  readonly refreshMs: number;
  refreshAtMs: number;
};

/** What a call that may fill the cache notes before it is sent. */
export type FillTicket = { readonly generation: number; readonly heard: number; readonly sentMs: number };

export type FillResult = { readonly session: Session; readonly expiresInMs: number };

export type Lookup =
  | {
      readonly kind: "hit";
      readonly session: Session;
      /** True once, when the entry wants a refresh. */
      readonly stale: boolean;
    }
  | { readonly kind: "miss" }
  | { readonly kind: "bypass" };

export type SessionCache = ReturnType<typeof createCache>;

/** A hit older than this share of what the session had left asks the service again, so that a busy session does not idle out. */
const REFRESH_SHARE = 0.1;
const REFRESH_MAX_MS = 60_000;

export function createCache(maxEntries: number) {
  // In the order of use: the first is the one to evict.
  const entries = new Map<string, Entry>();
  const keysOfSession = new Map<string, Set<string>>();
  // Fills under way, oldest first; and for each session and partition of which something was heard since the oldest: how
  // manyth thing that was, in that order.
  const fills = new Set<FillTicket>();
  const heardOf = new Map<string | number, number>();
  let heard = 0;
  // Grows whenever continuity is lost: what was asked before belongs to another life.
  let generation = 0;
  let safeUntilMs = -Infinity;

  function remove(key: string): void {
    const entry = entries.get(key);
    if (entry === undefined) return;
    entries.delete(key);
    const keys = keysOfSession.get(entry.session.sessionId);
    keys?.delete(key);
    if (keys?.size === 0) keysOfSession.delete(entry.session.sessionId);
  }

  function store(key: string, { session, expiresInMs }: FillResult, sentMs: number): void {
    const refreshMs = Math.min(REFRESH_MAX_MS, expiresInMs * REFRESH_SHARE);
    entries.set(key, { session, deadlineMs: sentMs + expiresInMs, refreshMs, refreshAtMs: sentMs + refreshMs });
    let keys = keysOfSession.get(session.sessionId);
    if (keys === undefined) keysOfSession.set(session.sessionId, (keys = new Set()));
    keys.add(key);
    if (entries.size > maxEntries) remove(entries.keys().next().value!);
  }

  /** Forgets what was heard before the oldest fill that is still under way. */
  function close(ticket: FillTicket): void {
    fills.delete(ticket);
    const oldest = fills.values().next().value;
    for (const [what, at] of heardOf) {
      if (oldest !== undefined && at > oldest.heard) return;
      heardOf.delete(what);
    }
  }

  function hear(what: string | number): void {
    heard++;
    if (fills.size === 0) return;
    heardOf.delete(what);
    heardOf.set(what, heard);
  }

  /** Whether nothing was heard of the session since the call was sent. */
  function isNews(sessionId: string, ticket: FillTicket): boolean {
    const last = Math.max(heardOf.get(sessionId) ?? 0, heardOf.get(partitionOf(sessionId)) ?? 0);
    return ticket.generation === generation && last <= ticket.heard;
  }

  function removeSession(sessionId: string): void {
    for (const key of [...(keysOfSession.get(sessionId) ?? [])]) remove(key);
  }

  return {
    lookup(key: string): Lookup {
      const atMs = nowMs();
      if (atMs >= safeUntilMs) return { kind: "bypass" };
      const entry = entries.get(key);
      if (entry === undefined) return { kind: "miss" };
      if (atMs >= entry.deadlineMs) {
        remove(key);
        return { kind: "miss" };
      }
      entries.delete(key);
      entries.set(key, entry);
      const stale = atMs >= entry.refreshAtMs;
      if (stale) entry.refreshAtMs = Infinity;
      return { kind: "hit", session: entry.session, stale };
    },

    /** Every ticket is given back, to `endFill` or to `abandonFill`. */
    beginFill(): FillTicket {
      const ticket = { generation, heard, sentMs: nowMs() };
      fills.add(ticket);
      return ticket;
    },

    /** Stores the answer unless something newer was heard; undefined: there is nothing that may be kept. */
    endFill(key: string, ticket: FillTicket, answer: FillResult | undefined): void {
      remove(key);
      if (answer !== undefined && isNews(answer.session.sessionId, ticket)) store(key, answer, ticket.sentMs);
      close(ticket);
    },

    /** The service could not tell: what is there stays as good as it is, and is refreshed later. */
    abandonFill(key: string, ticket: FillTicket): void {
      close(ticket);
      const entry = entries.get(key);
      if (entry?.refreshAtMs === Infinity) entry.refreshAtMs = nowMs() + entry.refreshMs;
    },

    invalidate(sessionId: string): void {
      hear(sessionId);
      removeSession(sessionId);
    },

    /** Continuity is lost for the sessions of one partition. */
    clearPartition(partition: number): void {
      hear(partition);
      for (const sessionId of [...keysOfSession.keys()]) {
        if (partitionOf(sessionId) === partition) removeSession(sessionId);
      }
    },

    /** Continuity is lost: everything goes, and what is under way is not stored. */
    clear(): void {
      generation++;
      entries.clear();
      keysOfSession.clear();
      heardOf.clear();
      safeUntilMs = -Infinity;
    },

    extendLease(untilMs: number): void {
      safeUntilMs = Math.max(safeUntilMs, untilMs);
    },

    get safeForMs(): number {
      return Math.max(0, safeUntilMs - nowMs());
    },
    get size(): number {
      return entries.size;
    },
  };
}

/** The first byte of a session_id, as the contract has it. */
function partitionOf(sessionId: string): number {
  return Buffer.from(sessionId.slice(0, 2), "base64url")[0] ?? -1;
}
