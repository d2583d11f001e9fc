// The session cache: validated sessions that may be served from memory.
//
// An entry is served only before the lease ends (which the watch extends) and before the entry's own deadline. It is stored
// only if its session was not invalidated after the request that filled it was sent.

import type { Session } from "../../gen/session/v1/session_pb.ts";
import { nowMs } from "./clock.ts";

/** All times are on the clock of nowMs(). */
type Entry = {
  readonly session: Session;
  readonly deadlineMs: number;
  readonly refreshMs: number;
  refreshAtMs: number;
};

/** Taken before a request is sent whose response may fill the cache; `sentMs` is on the clock of nowMs(). */
export type FillTicket = { readonly sequence: number; readonly sentMs: number };

export type FillResult = { readonly session: Session; readonly expiresInMs: number };

export type Lookup =
  | {
      readonly kind: "hit";
      readonly session: Session;
      /** True for one hit after the entry is due for a refresh. */
      readonly needsRefresh: boolean;
    }
  | { readonly kind: "miss" }
  /** The lease has ended, so nothing may be served from memory. */
  | { readonly kind: "bypass" };

/**
 * An entry is refreshed after this share of its session's remaining time, so that a session in use does not idle out. The
 * service declines to slide within a tenth of the idle timeout, so every use after 0.1 + 0.1 * 0.9 = 0.19 of it is an access:
 * a session that is used at least once in 0.8 of it stays alive (docs/cached-client.md).
 */
const REFRESH_SHARE = 0.1;
const REFRESH_MAX_MS = 60_000;

export class SessionCache {
  readonly #maxEntries: number;
  // In the order of use: the first is evicted first.
  readonly #entries = new Map<string, Entry>();
  readonly #keysOfSession = new Map<string, Set<string>>();
  // The fills under way whose results may be stored, the oldest first.
  readonly #fills = new Set<FillTicket>();
  // The sequence number of the last invalidation of each session id and partition, in ascending order. Only of invalidations
  // since the oldest fill began.
  readonly #invalidations = new Map<string | number, number>();
  #sequence = 0;
  #leaseEndMs = -Infinity;

  constructor(maxEntries: number) {
    this.#maxEntries = maxEntries;
  }

  lookup(key: string): Lookup {
    const atMs = nowMs();
    if (atMs >= this.#leaseEndMs) return { kind: "bypass" };
    const entry = this.#entries.get(key);
    if (entry === undefined || atMs >= entry.deadlineMs) {
      this.#remove(key);
      return { kind: "miss" };
    }
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    const needsRefresh = atMs >= entry.refreshAtMs;
    if (needsRefresh) entry.refreshAtMs = Infinity;
    return { kind: "hit", session: entry.session, needsRefresh };
  }

  /** Every ticket must be given back to `endFill` or `abandonFill`. */
  beginFill(): FillTicket {
    const ticket = { sequence: this.#sequence, sentMs: nowMs() };
    this.#fills.add(ticket);
    return ticket;
  }

  /**
   * Replaces the entry by the result, unless the session was invalidated since the ticket was taken. Without a result, which
   * means that the response must not be cached, only removes the entry.
   */
  endFill(key: string, ticket: FillTicket, result: FillResult | undefined): void {
    this.#remove(key);
    const isCurrent = (id: string | number) => (this.#invalidations.get(id) ?? 0) <= ticket.sequence;
    if (result !== undefined && this.#fills.has(ticket)) {
      const { sessionId } = result.session;
      if (isCurrent(sessionId) && isCurrent(partitionOf(sessionId))) this.#store(key, result, ticket.sentMs);
    }
    this.#forgetFill(ticket);
  }

  /** Ends a fill that failed: the present entry stays valid, and a later hit requests the refresh again. */
  abandonFill(key: string, ticket: FillTicket): void {
    this.#forgetFill(ticket);
    const entry = this.#entries.get(key);
    if (entry?.refreshAtMs === Infinity) entry.refreshAtMs = nowMs() + entry.refreshMs;
  }

  invalidate(sessionId: string): void {
    this.#recordInvalidation(sessionId);
    this.#removeSession(sessionId);
  }

  /** Drops the sessions of one partition, because invalidations of it may be missing. */
  clearPartition(partition: number): void {
    this.#recordInvalidation(partition);
    for (const sessionId of [...this.#keysOfSession.keys()]) {
      if (partitionOf(sessionId) === partition) this.#removeSession(sessionId);
    }
  }

  /** Drops everything, the lease and the results of fills under way too, because any invalidation may be missing. */
  clear(): void {
    this.#fills.clear();
    this.#invalidations.clear();
    this.#entries.clear();
    this.#keysOfSession.clear();
    this.#leaseEndMs = -Infinity;
  }

  /** An `untilMs` before the present end of the lease changes nothing. */
  extendLease(untilMs: number): void {
    this.#leaseEndMs = Math.max(this.#leaseEndMs, untilMs);
  }

  /** How long entries may be served from now on; 0 when the lease has ended. */
  get safeForMs(): number {
    return Math.max(0, this.#leaseEndMs - nowMs());
  }

  get size(): number {
    return this.#entries.size;
  }

  #recordInvalidation(id: string | number): void {
    this.#sequence++;
    if (this.#fills.size === 0) return;
    // Deleted first, so that the id moves to the end of the order.
    this.#invalidations.delete(id);
    this.#invalidations.set(id, this.#sequence);
  }

  /** Also forgets the invalidations before the oldest fill that is still under way. */
  #forgetFill(ticket: FillTicket): void {
    this.#fills.delete(ticket);
    const oldest = this.#fills.values().next().value;
    for (const [id, sequence] of this.#invalidations) {
      if (oldest !== undefined && sequence > oldest.sequence) return;
      this.#invalidations.delete(id);
    }
  }

  #store(key: string, { session, expiresInMs }: FillResult, sentMs: number): void {
    const refreshMs = Math.min(REFRESH_MAX_MS, expiresInMs * REFRESH_SHARE);
    const deadlineMs = sentMs + expiresInMs;
    this.#entries.set(key, { session, deadlineMs, refreshMs, refreshAtMs: sentMs + refreshMs });
    let keys = this.#keysOfSession.get(session.sessionId);
    if (keys === undefined) this.#keysOfSession.set(session.sessionId, (keys = new Set()));
    keys.add(key);
    if (this.#entries.size > this.#maxEntries) this.#remove(this.#entries.keys().next().value!);
  }

  #remove(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    const keys = this.#keysOfSession.get(entry.session.sessionId);
    keys?.delete(key);
    if (keys?.size === 0) this.#keysOfSession.delete(entry.session.sessionId);
  }

  #removeSession(sessionId: string): void {
    for (const key of [...(this.#keysOfSession.get(sessionId) ?? [])]) this.#remove(key);
  }
}

/** The partition is the first byte of the session id. */
function partitionOf(sessionId: string): number {
  return Buffer.from(sessionId.slice(0, 2), "base64url")[0] ?? -1;
}
