// The relay: this instance's one view of all change logs, in order and without a hole.
//
// Pub/sub is only the doorbell: a change that follows the last one is taken as it comes, and anything else makes the relay
// read the log from where it stands. The proof is the tails: only after it has read all of them, and every log up to them,
// may it say "everything up to here".

import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { PARTITION_COUNT } from "../domain/owner.ts";
import { LOG_START, type LogEnd, type Position } from "../domain/position.ts";
import type { Change, ChangeLog } from "../store/watch_change_log.ts";

/** Why the changes between two positions of a partition cannot be told. */
export type ResetCause = "trimmed" | "epoch_changed";

export type ChangeLogReaderEvents = {
  /** The next change of its partition. */
  onChange(change: Change): void;
  /** Changes of this partition may be missing before where the relay stands now. */
  onReset(partition: number, cause: ResetCause): void;
};

export type ChangeLogReader = {
  /** Where the relay stands now; a snapshot. */
  position(): Position;
  /**
   * Resolves when the relay has told everything that had happened when this was called. Rejects when the store does not
   * answer within `PROOF_TIMEOUT_MS`: then nothing is proven.
   */
  syncToTail(): Promise<void>;
  close(): Promise<void>;
};

const PROOF_TIMEOUT_MS = 1000;
/** However many ask, the tails are read no more often than this. */
const PROOF_SPACING_MS = 20;
const FILL_BATCH = 500;

export async function startChangeLogReader(
  changes: ChangeLog,
  events: ChangeLogReaderEvents,
  log: Logger,
): Promise<ChangeLogReader> {
  const ends: LogEnd[] = Array.from({ length: PARTITION_COUNT }, () => LOG_START);
  // Fills of partitions that are under way, one at a time each, so that its changes come in order; and how far the
  // doorbell says the log goes by now.
  const fills = new Map<number, Promise<void>>();
  const heardDuringFill = new Map<number, LogEnd>();
  const closing = new AbortController();
  let started = false;
  let running: Promise<void> | undefined;
  let next: Promise<void> | undefined;
  let spacing: Promise<void> = Promise.resolve();

  const budget = () => ({ deadlineMs: performance.now() + PROOF_TIMEOUT_MS, signal: closing.signal });

  const subscription = changes.subscribe(hear, (up) => {
    // What was published before the link was up is in the logs.
    if (up && started)
      prove().catch((error: unknown) => log.debug({ err: error }, "the change logs could not be read"));
  });

  function hear(change: Change): void {
    if (!started) return;
    if (fills.has(change.partition)) {
      heardDuringFill.set(change.partition, change.end);
      return;
    }
    const end = ends[change.partition]!;
    if (follows(end, change.end)) take(change);
    else if (isAfter(change.end, end)) fill(change.partition).catch(() => undefined);
  }

  function take(change: Change): void {
    ends[change.partition] = change.end;
    events.onChange(change);
  }

  /** Reads a partition's log from where the relay stands to its end. */
  function fill(partition: number): Promise<void> {
    const under = fills.get(partition);
    if (under !== undefined) return under;
    const filling = readOn(partition).finally(() => {
      fills.delete(partition);
      heardDuringFill.delete(partition);
    });
    fills.set(partition, filling);
    return filling;
  }

  async function readOn(partition: number): Promise<void> {
    for (;;) {
      const batch = await changes.readLog(partition, ends[partition]!, FILL_BATCH, budget());
      for (const change of batch) {
        const end = ends[partition]!;
        const { epoch, seq } = change.end;
        if (!follows(end, change.end)) {
          reset(partition, epoch === end.epoch ? "trimmed" : "epoch_changed", { epoch, seq: seq - 1 });
        }
        take(change);
      }
      const heard = heardDuringFill.get(partition);
      const more = batch.length === FILL_BATCH || (heard !== undefined && isAfter(heard, ends[partition]!));
      heardDuringFill.delete(partition);
      if (!more) return;
    }
  }

  /** Goes on at `end`, first: a watcher that resumes from the reset is to continue after it. */
  function reset(partition: number, cause: ResetCause, end: LogEnd): void {
    log.warn({ partition, cause }, "changes cannot be told: watchers are reset");
    ends[partition] = end;
    events.onReset(partition, cause);
  }

  async function proof(): Promise<void> {
    const tails = await changes.readTails(budget());
    await Promise.all(tails.map((tail, partition) => readUpTo(partition, tail)));
    // The relay stands after a tail that was read when a change came meanwhile, or when the store lost the end of its log.
    const before = [...ends];
    if (!before.some((end, partition) => isAfter(end, tails[partition]!))) return;
    const again = await changes.readTails(budget());
    again.forEach((tail, partition) => {
      // A fill may have found the new epoch meanwhile: then it has said so, and stands in it.
      const { epoch } = before[partition]!;
      if (isAfter(before[partition]!, tail) && ends[partition]!.epoch === epoch)
        reset(partition, "epoch_changed", tail);
    });
  }

  async function readUpTo(partition: number, tail: LogEnd): Promise<void> {
    // The first fill may be one that began before the tails were read, so that it ends before them.
    for (let fillsLeft = 2; fillsLeft > 0 && isAfter(tail, ends[partition]!); fillsLeft--) await fill(partition);
    if (!isAfter(tail, ends[partition]!)) return;
    // The log ends before its own tail: its end was trimmed away.
    reset(partition, tail.epoch === ends[partition]!.epoch ? "trimmed" : "epoch_changed", tail);
  }

  /** One proof at a time serves everybody who asked before it began; who asks later waits for the next one. */
  function prove(): Promise<void> {
    next ??= (running ?? Promise.resolve())
      .catch(() => undefined)
      .then(() => spacing)
      .then(() => {
        running = next;
        next = undefined;
        spacing = sleep(PROOF_SPACING_MS, undefined, { ref: false });
        return proof();
      })
      .finally(() => (running = undefined));
    return next;
  }

  const tails = await changes.readTails(budget());
  tails.forEach((tail, partition) => (ends[partition] = tail));
  started = true;

  return {
    position: () => [...ends],
    syncToTail: prove,
    async close() {
      closing.abort();
      await subscription.close();
    },
  };
}

export function isAfter(a: LogEnd, b: LogEnd): boolean {
  return a.epoch > b.epoch || (a.epoch === b.epoch && a.seq > b.seq);
}

/** Whether nothing is between them. */
export function follows(end: LogEnd, next: LogEnd): boolean {
  return end.epoch === next.epoch && next.seq === end.seq + 1;
}
