// The change-log reader: this instance's one view of all change logs, in order and without a gap.
//
// A published change is only a wake-up hint. The reader applies it if it directly follows the last one, and otherwise reads the
// log from its own position. The tails are what it relies on: once it has read all of them, and every log up to its tail,
// everything that happened before is applied.

import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { WatchResetCauseSchema, type WatchResetCause } from "../../gen/session/v1/watch_pb.ts";
import type { CallDeadline } from "../domain/call.ts";
import { PARTITION_COUNT } from "../domain/owner.ts";
import { follows, isAfter, LOG_START, type LogEnd, type Position } from "../domain/position.ts";
import type { Change, ChangeLog } from "../store/watch_change_log.ts";
import { resetCause } from "./messages.ts";

export type ChangeLogReaderEvents = {
  /** Receives the next change of its partition. */
  onChange(change: Change): void;
  /** Reports that changes of this partition before the reader's present position may be missing. */
  onReset(partition: number, cause: WatchResetCause): void;
};

const SYNC_TIMEOUT_MS = 1000;
/** The tails are read no more often than this, however many callers want to sync. */
const SYNC_SPACING_MS = 20;
const CATCH_UP_BATCH = 500;
const SYNC_FAILED = "could not read the change logs after a reconnect; the next sync will";

export class ChangeLogReader {
  readonly #changes: ChangeLog;
  readonly #events: ChangeLogReaderEvents;
  readonly #log: Logger;
  readonly #ends: LogEnd[] = Array.from({ length: PARTITION_COUNT }, () => LOG_START);
  // At most one for each partition, so that its changes are applied in order.
  readonly #catchUps = new Map<number, Promise<void>>();
  readonly #publishedDuringCatchUp = new Map<number, LogEnd>();
  readonly #closing = new AbortController();
  #subscription: { close(): Promise<void> } | undefined;
  // The sync that has not begun yet, if a caller waits for one.
  #nextSync: Promise<void> | undefined;
  // Resolves when the next sync may begin.
  #syncSpacing: Promise<unknown> = Promise.resolve();

  constructor(changes: ChangeLog, events: ChangeLogReaderEvents, log: Logger) {
    this.#changes = changes;
    this.#events = events;
    this.#log = log;
  }

  /** Starts at the present tails. Rejects if the store does not return them within `SYNC_TIMEOUT_MS`. */
  async start(): Promise<void> {
    const tails = await this.#changes.readTails(this.#deadline());
    tails.forEach((tail, partition) => (this.#ends[partition] = tail));
    this.#subscription = this.#changes.subscribe(
      (change) => this.#onPublished(change),
      (isUp) => {
        // Changes that were published while no connection was up are only in the logs.
        if (isUp) this.syncToTail().catch((error: unknown) => this.#log.debug({ err: error }, SYNC_FAILED));
      },
    );
  }

  /** Returns a snapshot of the position up to which all changes have been applied. */
  position(): Position {
    return [...this.#ends];
  }

  /**
   * Resolves when everything that had happened before this call has been applied. Rejects if the store does not respond within
   * `SYNC_TIMEOUT_MS`. One run serves all callers that came before it began; later callers share the next run.
   */
  syncToTail(): Promise<void> {
    return (this.#nextSync ??= this.#runNextSync());
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#subscription?.close();
  }

  #onPublished(change: Change): void {
    const { partition } = change;
    if (this.#catchUps.has(partition)) {
      this.#publishedDuringCatchUp.set(partition, change.end);
      return;
    }
    const end = this.#ends[partition]!;
    if (follows(end, change.end)) this.#apply(change);
    else if (isAfter(change.end, end)) this.#catchUp(partition).catch(() => undefined);
  }

  #apply(change: Change): void {
    this.#ends[change.partition] = change.end;
    this.#events.onChange(change);
  }

  /** Reads a partition's log from the reader's position to its end; joins a catch-up that is already running. */
  #catchUp(partition: number): Promise<void> {
    const running = this.#catchUps.get(partition);
    if (running !== undefined) return running;
    const catchUp = this.#readToEnd(partition).finally(() => this.#catchUps.delete(partition));
    this.#catchUps.set(partition, catchUp);
    return catchUp;
  }

  async #readToEnd(partition: number): Promise<void> {
    for (;;) {
      const batch = await this.#changes.readLog(partition, this.#ends[partition]!, CATCH_UP_BATCH, this.#deadline());
      for (const change of batch) {
        const { epoch, seq } = change.end;
        if (!follows(this.#ends[partition]!, change.end)) this.#reset(partition, { epoch, seq: seq - 1 });
        this.#apply(change);
      }
      const published = this.#publishedDuringCatchUp.get(partition);
      this.#publishedDuringCatchUp.delete(partition);
      const isBehind = published !== undefined && isAfter(published, this.#ends[partition]!);
      if (batch.length < CATCH_UP_BATCH && !isBehind) return;
    }
  }

  /** Moves to `end` before it reports the reset, so that a watcher that resumes from the reset continues after it. */
  #reset(partition: number, end: LogEnd): void {
    const cause = resetCause(this.#ends[partition]!, end);
    const name = WatchResetCauseSchema.value[cause]!.localName.toLowerCase();
    this.#log.warn(
      { partition, cause: name },
      "changes of a partition are missing from its log; its watchers get a reset",
    );
    this.#ends[partition] = end;
    this.#events.onReset(partition, cause);
  }

  async #runNextSync(): Promise<void> {
    await this.#syncSpacing;
    this.#nextSync = undefined;
    const sync = this.#readToTails();
    this.#syncSpacing = Promise.allSettled([sync, sleep(SYNC_SPACING_MS, undefined, { ref: false })]);
    return sync;
  }

  async #readToTails(): Promise<void> {
    const tails = await this.#changes.readTails(this.#deadline());
    await Promise.all(tails.map((tail, partition) => this.#readToTail(partition, tail)));
    // The reader can be past a tail because a change came meanwhile, or because the store lost the end of its log.
    const before = [...this.#ends];
    if (!before.some((end, partition) => isAfter(end, tails[partition]!))) return;
    const tailsNow = await this.#changes.readTails(this.#deadline());
    tailsNow.forEach((tail, partition) => {
      // If a catch-up found the new epoch meanwhile, it has reported the reset already.
      const isSameEpoch = this.#ends[partition]!.epoch === before[partition]!.epoch;
      if (isAfter(before[partition]!, tail) && isSameEpoch) this.#reset(partition, tail);
    });
  }

  async #readToTail(partition: number, tail: LogEnd): Promise<void> {
    // The first catch-up may have begun before the tails were read, so it may end before the tail.
    for (let left = 2; left > 0 && isAfter(tail, this.#ends[partition]!); left--) await this.#catchUp(partition);
    // The log ends before its own tail, because its end was trimmed away.
    if (isAfter(tail, this.#ends[partition]!)) this.#reset(partition, tail);
  }

  #deadline(): CallDeadline {
    return { deadlineMs: performance.now() + SYNC_TIMEOUT_MS, signal: this.#closing.signal };
  }
}
