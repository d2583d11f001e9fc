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

export type FillAnswer = { readonly session: Session; readonly expiresInMs: number };

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
  // Fills under way, oldest first; and for each session of which something was heard since the oldest: how manyth thing
  // that was, in that order.
  const fills = new Set<FillTicket>();
  const heardOf = new Map<string, number>();
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

  function store(key: string, { session, expiresInMs }: FillAnswer, sentMs: number): void {
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
    for (const [sessionId, at] of heardOf) {
      if (oldest !== undefined && at > oldest.heard) return;
      heardOf.delete(sessionId);
    }
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
    endFill(key: string, ticket: FillTicket, answer: FillAnswer | undefined): void {
      remove(key);
      if (
        answer !== undefined &&
        ticket.generation === generation &&
        (heardOf.get(answer.session.sessionId) ?? 0) <= ticket.heard
      ) {
        store(key, answer, ticket.sentMs);
      }
      close(ticket);
    },

    /** The service could not tell: what is there stays as good as it is, and is refreshed later. */
    abandonFill(key: string, ticket: FillTicket): void {
      close(ticket);
      const entry = entries.get(key);
      if (entry?.refreshAtMs === Infinity) entry.refreshAtMs = nowMs() + entry.refreshMs;
    },

    invalidate(sessionId: string): void {
      heard++;
      if (fills.size > 0) {
        heardOf.delete(sessionId);
        heardOf.set(sessionId, heard);
      }
      for (const key of [...(keysOfSession.get(sessionId) ?? [])]) remove(key);
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
