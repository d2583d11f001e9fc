// Tracks the fills under way and what was invalidated meanwhile, so that a late response never overwrites an invalidation.

import { nowMs } from "./clock.ts";

/** Taken before a request is sent whose response may fill the cache; `sentMs` is on the clock of nowMs(). */
export type FillTicket = { readonly generation: number; readonly sequence: number; readonly sentMs: number };

export class FillTracker {
  // The oldest first.
  readonly #fills = new Set<FillTicket>();
  // The sequence number of the last invalidation of each session id and partition, in ascending order. Only of invalidations
  // since the oldest fill began.
  readonly #invalidations = new Map<string | number, number>();
  #sequence = 0;
  #generation = 0;

  /** Every ticket must be given back to `end`. */
  begin(): FillTicket {
    const ticket = { generation: this.#generation, sequence: this.#sequence, sentMs: nowMs() };
    this.#fills.add(ticket);
    return ticket;
  }

  /** Also forgets the invalidations before the oldest fill that is still under way. */
  end(ticket: FillTicket): void {
    this.#fills.delete(ticket);
    const oldest = this.#fills.values().next().value;
    for (const [key, sequence] of this.#invalidations) {
      if (oldest !== undefined && sequence > oldest.sequence) return;
      this.#invalidations.delete(key);
    }
  }

  /** Records an invalidation of one session id or of one partition. */
  invalidate(key: string | number): void {
    this.#sequence++;
    if (this.#fills.size === 0) return;
    // Deleted first, so that the key moves to the end of the order.
    this.#invalidations.delete(key);
    this.#invalidations.set(key, this.#sequence);
  }

  /** Makes the response of every fill under way unusable. */
  invalidateAll(): void {
    this.#generation++;
    this.#invalidations.clear();
  }

  /** Returns true if neither the session nor its partition was invalidated since the ticket was taken. */
  isCurrent(ticket: FillTicket, sessionId: string, partition: number): boolean {
    const last = Math.max(this.#invalidations.get(sessionId) ?? 0, this.#invalidations.get(partition) ?? 0);
    return ticket.generation === this.#generation && last <= ticket.sequence;
  }
}
