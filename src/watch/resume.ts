// Resuming a watch: replays the changes between the watcher's resume position and the start of its new subscription.

import { WatchResetCause } from "../../gen/session/v1/watch_pb.ts";
import { follows, isAfter, type ChangeId, type Position } from "../domain/position.ts";
import type { TokenKeyRing } from "../domain/token.ts";
import type { ChangeLog } from "../store/watch_change_log.ts";
import { matches, partitionsIn, type WatchFilter } from "./filters.ts";
import { changeMessages, MAX_PARTITION_RESETS, resetCause, resetMessage, type WatchResponse } from "./messages.ts";

const REPLAY_BATCH = 500;
const REPLAY_TIMEOUT_MS = 5000;

type ReplayOptions = {
  readonly changes: ChangeLog;
  readonly filter: WatchFilter;
  readonly encode: (position: Position) => string;
  readonly keyRing: () => TokenKeyRing;
  /** Ends the replay when the call ends. */
  readonly signal: AbortSignal;
};

/**
 * Yields the changes after `resumed` up to `start`, partition by partition, and a reset where changes may be missing. Leaves out
 * the partitions in which the filter can match nothing.
 */
export async function* replay(
  resumed: Position,
  start: Position,
  { changes, filter, encode, keyRing, signal }: ReplayOptions,
): AsyncIterable<WatchResponse> {
  // How far the replay has come: partitions that are still to be replayed stand at the resume position.
  const position = [...resumed];
  const replayed = new Set(partitionsIn(filter, [...start.keys()]));
  const lost = [...replayed].filter((partition) => isLost(resumed[partition]!, start[partition]!));
  if (lost.length > MAX_PARTITION_RESETS) {
    yield resetMessage(WatchResetCause.EPOCH_CHANGED, "").message;
    return;
  }
  for (const [partition, end] of start.entries()) {
    if (!replayed.has(partition)) {
      position[partition] = end;
      continue;
    }
    /** Moves the replay to `next`, and returns the reset that reports that changes before it may be missing. */
    const resetTo = (next: ChangeId): WatchResponse => {
      const cause = resetCause(position[partition]!, next);
      position[partition] = next;
      return resetMessage(cause, encode(position), partition).message;
    };

    if (isAfter(position[partition]!, end)) yield resetTo(end);
    while (isAfter(end, position[partition]!)) {
      const deadline = { deadlineMs: performance.now() + REPLAY_TIMEOUT_MS, signal };
      const batch = await changes.readLog(partition, position[partition]!, REPLAY_BATCH, deadline);
      if (batch.length === 0) yield resetTo(end);
      for (const change of batch) {
        if (!isAfter(end, position[partition]!)) break;
        const { epoch, seq } = change.id;
        const isPastEnd = isAfter(change.id, end);
        if (!follows(position[partition]!, change)) yield resetTo(isPastEnd ? end : { epoch, seq: seq - 1 });
        if (isPastEnd) break;
        position[partition] = change.id;
        const isSent = matches(filter, change);
        const message = isSent ? changeMessages(change, keyRing)(filter.hasReferences) : undefined;
        if (message !== undefined) yield message.message;
      }
    }
  }
}

/** Returns true if the store has lost what the watcher has seen: its log ends earlier, or has begun anew without a change. */
function isLost(resumed: ChangeId, end: ChangeId): boolean {
  return isAfter(resumed, end) || (end.seq === 0 && isAfter(end, resumed));
}
