// The session cache: validated sessions that may be served from memory.
//
// An entry is served only before the lease ends (which the watch extends) and before the entry's own deadline. It is stored
// only if its session was not invalidated after the request that filled it was sent.

import { IpBinding, type Session } from "../../gen/session/v1/session_pb.ts";
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

/** What the service says of a session: that it is valid, and for how long it may be served from memory; or that it is not. */
export type FillResult = { readonly session: Session; readonly expiresInMs: number | undefined } | typeof DEAD;

/** No session is opened by the handle. */
export const DEAD = "dead";

export type Lookup =
  | {
      readonly kind: "hit";
      readonly session: Session;
      /** True for one hit after the entry is due for a refresh. */
      readonly needsRefresh: boolean;
    }
  | { readonly kind: "miss" }
  /** The session has ended, or never was. */
  | { readonly kind: "dead" }
  /** The lease has ended, so nothing may be served from memory. */
  | { readonly kind: "bypass" };

/**
 * An entry is refreshed after this share of its session's remaining time, so that a session in use does not idle out. The
 * service declines to slide within a tenth of the idle timeout, so every use after 0.1 + 0.1 * 0.9 = 0.19 of it is an access:
 * a session that is used at least once in 0.8 of it stays alive (docs/cached-client.md).
 */
const REFRESH_SHARE = 0.1;
const REFRESH_MAX_MS = 60_000;

/**
 * An ended session never becomes valid again. A token of a key that one instance does not know yet, during a rotation of the token
 * keys, does: so nothing counts as dead for long.
 */
const DEAD_MS = 5000;
/** Few, because nobody but an attacker presents many dead handles again and again. */
const MAX_DEAD = 1000;

export class SessionCache {
  readonly #maxEntries: number;
  // In the order of use: the first is evicted first.
  readonly #entries = new Map<string, Entry>();
  readonly #keysOfSession = new Map<string, Set<string>>();
  // Handles that opened no session, and until when to believe that; the oldest first.
  readonly #dead = new Map<string, number>();
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

  /** Looks up the session that `handle` opens for a request from `address`. */
  lookup(handle: string, address: string): Lookup {
    const atMs = nowMs();
    if (this.#isDead(handle, atMs)) return { kind: "dead" };
    if (atMs >= this.#leaseEndMs) return { kind: "bypass" };
    const key = this.#entries.has(handle) ? handle : boundKey(handle, address);
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
   * Replaces the entry by the result, unless the session was invalidated since the ticket was taken. Returns false if it was, or
   * if any invalidation since then may be missing: then the result is older than what is known by now.
   */
  endFill(handle: string, address: string, ticket: FillTicket, result: FillResult): boolean {
    this.#remove(handle);
    this.#remove(boundKey(handle, address));
    let isCurrent = this.#fills.has(ticket);
    if (result === DEAD) {
      this.#rememberDead(handle);
    } else {
      const { sessionId, ipBinding } = result.session;
      isCurrent &&= [sessionId, partitionOf(sessionId)].every(
        (id) => (this.#invalidations.get(id) ?? 0) <= ticket.sequence,
      );
      // The service has to see each address of a session that compares them.
      const key = ipBinding === IpBinding.UNSPECIFIED ? handle : boundKey(handle, address);
      if (isCurrent && result.expiresInMs !== undefined)
        this.#store(key, result.session, result.expiresInMs, ticket.sentMs);
    }
    this.#forgetFill(ticket);
    return isCurrent;
  }

  /** Ends a fill that failed: the present entry stays valid, and a later hit requests the refresh again. */
  abandonFill(handle: string, address: string, ticket: FillTicket): void {
    this.#forgetFill(ticket);
    const entry = this.#entries.get(handle) ?? this.#entries.get(boundKey(handle, address));
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
    this.#dead.clear();
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

  #isDead(handle: string, atMs: number): boolean {
    const untilMs = this.#dead.get(handle);
    if (untilMs === undefined) return false;
    if (atMs < untilMs) return true;
    this.#dead.delete(handle);
    return false;
  }

  #rememberDead(handle: string): void {
    this.#dead.delete(handle);
    this.#dead.set(handle, nowMs() + DEAD_MS);
    if (this.#dead.size > MAX_DEAD) this.#dead.delete(this.#dead.keys().next().value!);
  }

  #store(key: string, session: Session, expiresInMs: number, sentMs: number): void {
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

/** Returns the key of a session that is valid for one address only. */
function boundKey(handle: string, address: string): string {
  return `${address.length}/${address}/${handle}`;
}

/** The partition is the first byte of the session id. */
function partitionOf(sessionId: string): number {
  return Buffer.from(sessionId.slice(0, 2), "base64url")[0] ?? -1;
}
