// The cache: answers that may be served from memory, as long as nobody has said otherwise.
//
// An entry is served only while now < safe until (the lease, which the watch proves) and now < its own deadline, and it is
// only stored if nothing newer than the call that filled it has been heard of its session.

import type { Session } from "../../gen/session/v1/session_pb.ts";

type Entry = {
  readonly session: Session;
  /** On the clock of performance.now(). */
  readonly deadlineMs: number;
  readonly filledMs: number;
  readonly refreshMs: number;
  refreshing: boolean;
};

/** What a call that may fill the cache notes before it is sent. */
export type FillTicket = { readonly generation: number; readonly heard: number; readonly sentMs: number };

export type Lookup =
  | {
      readonly kind: "hit";
      readonly session: Session;
      /** True once, when the entry wants a refresh. */ readonly stale: boolean;
    }
  | { readonly kind: "miss" }
  | { readonly kind: "bypass" };

export type SessionCache = ReturnType<typeof createCache>;

/** A hit older than this share of what the session had left asks the service again, so that a busy session does not idle out. */
const REFRESH_SHARE = 0.25;
const REFRESH_MAX_MS = 60_000;

export function createCache(maxEntries: number) {
  // In the order of use: the first is the one to evict.
  const entries = new Map<string, Entry>();
  const keysOfSession = new Map<string, Set<string>>();
  // For each session of which something was heard while fills were under way: how manyth thing that was.
  const heardOf = new Map<string, number>();
  let heard = 0;
  let fills = 0;
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

  return {
    lookup(key: string): Lookup {
      const nowMs = performance.now();
      if (nowMs >= safeUntilMs) return { kind: "bypass" };
      const entry = entries.get(key);
      if (entry === undefined) return { kind: "miss" };
      if (nowMs >= entry.deadlineMs) {
        remove(key);
        return { kind: "miss" };
      }
      entries.delete(key);
      entries.set(key, entry);
      const stale = !entry.refreshing && nowMs - entry.filledMs >= entry.refreshMs;
      if (stale) entry.refreshing = true;
      return { kind: "hit", session: entry.session, stale };
    },

    beginFill(): FillTicket {
      fills++;
      return { generation, heard, sentMs: performance.now() };
    },

    /** Stores the answer unless something newer was heard; `expiresInMs` undefined: it must not be stored. */
    endFill(key: string, ticket: FillTicket, session: Session | undefined, expiresInMs: number | undefined): void {
      if (--fills === 0) queueMicrotask(() => fills === 0 && heardOf.clear());
      remove(key);
      if (session === undefined || expiresInMs === undefined || ticket.generation !== generation) return;
      if ((heardOf.get(session.sessionId) ?? 0) > ticket.heard) return;
      entries.set(key, {
        session,
        deadlineMs: ticket.sentMs + expiresInMs,
        filledMs: ticket.sentMs,
        refreshMs: Math.min(REFRESH_MAX_MS, expiresInMs * REFRESH_SHARE),
        refreshing: false,
      });
      let keys = keysOfSession.get(session.sessionId);
      if (keys === undefined) keysOfSession.set(session.sessionId, (keys = new Set()));
      keys.add(key);
      if (entries.size > maxEntries) remove(entries.keys().next().value!);
    },

    invalidate(sessionId: string): void {
      heard++;
      if (fills > 0) heardOf.set(sessionId, heard);
      for (const key of [...(keysOfSession.get(sessionId) ?? [])]) remove(key);
    },

    /** Continuity is lost: everything goes, and what is under way is not stored. */
    clear(): void {
      generation++;
      entries.clear();
      keysOfSession.clear();
      safeUntilMs = -Infinity;
    },

    extendLease(untilMs: number): void {
      safeUntilMs = Math.max(safeUntilMs, untilMs);
    },

    get safeForMs(): number {
      return Math.max(0, safeUntilMs - performance.now());
    },
    get size(): number {
      return entries.size;
    },
  };
}
