// The change-log reader: this instance's one view of all change logs, in order and without a gap.
//
// A published change is only a wake-up hint. The reader applies it if it directly follows the last one, and otherwise catches
// up: it reads the log of that partition from its own position. A sync covers all partitions: it reads the tail of each log,
// which holds the id of the last change, and catches up wherever it is behind, so that everything before is applied.

import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { WatchResetCauseSchema, type WatchResetCause } from "../../gen/session/v1/watch_pb.ts";
import type { CallDeadline } from "../domain/call.ts";
import { PARTITION_COUNT } from "../domain/owner.ts";
import { follows, isAfter, LOG_START, type ChangeId, type Position } from "../domain/position.ts";
import type { Change, ChangeLog } from "../store/watch_change_log.ts";
import { resetCause } from "./messages.ts";

export type ChangeLogReaderEvents = {
  /** Receives the next change of its partition. */
  onChange(change: Change): void;
  /** Reports that changes of these partitions before the reader's present position may be missing. */
  onReset(partitions: readonly number[], cause: WatchResetCause): void;
};

const SYNC_TIMEOUT_MS = 1000;
/** Longer, because the first read also begins the logs of partitions that have none, while the process is still loading code. */
const START_TIMEOUT_MS = 10_000;
const CATCH_UP_BATCH = 500;
const SYNC_FAILED = "could not read the change logs after a reconnect; the next sync will";

export class ChangeLogReader {
  readonly #changes: ChangeLog;
  readonly #events: ChangeLogReaderEvents;
  readonly #log: Logger;
  readonly #readTo: ChangeId[] = Array.from({ length: PARTITION_COUNT }, () => LOG_START);
  #revision = 0;
  // At most one for each partition, so that its changes are applied in order.
  readonly #catchUps = new Map<number, Promise<void>>();
  readonly #publishedDuringCatchUp = new Map<number, ChangeId>();
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

  /** Starts at the present tails. Rejects if the store does not return them within `START_TIMEOUT_MS`. */
  async start(): Promise<void> {
    const tails = await this.#changes.readTails(this.#deadline(START_TIMEOUT_MS));
    tails.forEach((tail, partition) => (this.#readTo[partition] = tail));
    this.#subscription = this.#changes.subscribe(
      (change) => this.#onPublished(change),
      (isUp) => {
        // Changes that were published while no connection was up are only in the logs.
        if (isUp) this.syncToTail().catch((error: unknown) => this.#log.debug({ err: error }, SYNC_FAILED));
      },
    );
  }

  /** Grows with each change of the position. */
  get revision(): number {
    return this.#revision;
  }

  /** Returns a snapshot of the position up to which all changes have been applied. */
  position(): Position {
    return [...this.#readTo];
  }

  /**
   * Resolves when everything that had happened before this call has been applied. Rejects if the store does not respond within
   * `SYNC_TIMEOUT_MS`. Callers that come before a sync begins share it; later ones share the next.
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
      this.#publishedDuringCatchUp.set(partition, change.id);
      return;
    }
    const readTo = this.#readTo[partition]!;
    if (follows(readTo, change)) this.#apply(change);
    else if (isAfter(change.id, readTo)) this.#catchUp(partition).catch(() => undefined);
  }

  #apply(change: Change): void {
    this.#readTo[change.partition] = change.id;
    this.#revision++;
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
      const batch = await this.#changes.readLog(partition, this.#readTo[partition]!, CATCH_UP_BATCH, this.#deadline());
      for (const change of batch) {
        const { epoch, seq } = change.id;
        // A reset to the id before it makes the change the next one.
        if (!follows(this.#readTo[partition]!, change)) this.#reset(new Map([[partition, { epoch, seq: seq - 1 }]]));
        this.#apply(change);
      }
      const published = this.#publishedDuringCatchUp.get(partition);
      this.#publishedDuringCatchUp.delete(partition);
      const isBehind = published !== undefined && isAfter(published, this.#readTo[partition]!);
      if (batch.length < CATCH_UP_BATCH && !isBehind) return;
    }
  }

  /** Moves to these ids before it reports the resets, so that a watcher that resumes from a reset continues after it. */
  #reset(ends: ReadonlyMap<number, ChangeId>): void {
    const partitions = [...ends.keys()];
    const [first] = partitions;
    if (first === undefined) return;
    const cause = resetCause(this.#readTo[first]!, ends.get(first)!);
    const name = WatchResetCauseSchema.value[cause]!.localName.toLowerCase();
    this.#log.warn(
      { partitions, cause: name },
      "changes are missing from the logs of partitions; watchers get a reset",
    );
    for (const [partition, id] of ends) this.#readTo[partition] = id;
    this.#revision++;
    this.#events.onReset(partitions, cause);
  }

  async #runNextSync(): Promise<void> {
    await this.#syncSpacing;
    this.#nextSync = undefined;
    const sync = this.#readToTails();
    this.#syncSpacing = Promise.allSettled([sync, sleep(this.#changes.tailSpacingMs, undefined, { ref: false })]);
    return sync;
  }

  async #readToTails(): Promise<void> {
    const tails = await this.#changes.readTails(this.#deadline());
    this.#reset(this.#begunAnew(tails));
    await Promise.all(tails.map((tail, partition) => this.#readToTail(partition, tail)));
    // The reader can be past a tail because a change came meanwhile, or because the store lost the end of its log. If it
    // still is on a second look at the tails, the end of the log was lost.
    const before = [...this.#readTo];
    if (!before.some((readTo, partition) => isAfter(readTo, tails[partition]!))) return;
    const secondTails = await this.#changes.readTails(this.#deadline());
    const lost = new Map<number, ChangeId>();
    secondTails.forEach((tail, partition) => {
      // If a catch-up found the new epoch meanwhile, it has reported the reset already.
      const isSameEpoch = this.#readTo[partition]!.epoch === before[partition]!.epoch;
      if (isAfter(before[partition]!, tail) && isSameEpoch) lost.set(partition, tail);
    });
    this.#reset(lost);
  }

  /** Returns the tails of the logs that the store had lost, and that have begun again and had no change since. */
  #begunAnew(tails: readonly ChangeId[]): Map<number, ChangeId> {
    const begun = [...tails.entries()].filter(
      ([partition, tail]) => tail.seq === 0 && isAfter(tail, this.#readTo[partition]!),
    );
    return new Map(begun);
  }

  async #readToTail(partition: number, tail: ChangeId): Promise<void> {
    if (isAfter(tail, this.#readTo[partition]!)) await this.#catchUp(partition);
    // That may have joined a catch-up which began before the tails were read, and so ended before the tail.
    if (isAfter(tail, this.#readTo[partition]!)) await this.#catchUp(partition);
    // The log ends before its own tail, because its end was trimmed away.
    if (isAfter(tail, this.#readTo[partition]!)) this.#reset(new Map([[partition, tail]]));
  }

  #deadline(timeoutMs = SYNC_TIMEOUT_MS): CallDeadline {
    return { deadlineMs: performance.now() + timeoutMs, signal: this.#closing.signal };
  }
}
