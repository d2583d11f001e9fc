// Resuming a watch: replays the changes between the watcher's resume position and the start of its new subscription.

import { WatchResetCause, type WatchInvalidationsResponse } from "../../gen/session/v1/watch_pb.ts";
import { follows, isAfter, type LogEnd, type Position } from "../domain/position.ts";
import type { ChangeLog } from "../store/watch_change_log.ts";
import { matches, type WatchFilter } from "./filters.ts";
import { changeMessage, resetMessage } from "./messages.ts";

const REPLAY_BATCH = 500;
const REPLAY_TIMEOUT_MS = 5000;

type ReplayOptions = {
  readonly changes: ChangeLog;
  readonly filter: WatchFilter;
  readonly encode: (position: Position) => string;
  /** Ends the replay when the call ends. */
  readonly signal: AbortSignal;
};

/** `position` is how far the replay has come: partitions that are still to be replayed stand at the resume position. */
type Replay = ReplayOptions & { readonly position: LogEnd[] };

/** Yields the changes after `resumed` up to `start`, partition by partition, and a reset where changes may be missing. */
export async function* replay(
  resumed: Position,
  start: Position,
  options: ReplayOptions,
): AsyncIterable<WatchInvalidationsResponse> {
  const state: Replay = { ...options, position: [...resumed] };
  for (const [partition, end] of start.entries()) {
    if (isAfter(state.position[partition]!, end)) yield resetTo(state, partition, end);
    else yield* replayPartition(state, partition, end);
  }
}

async function* replayPartition(
  state: Replay,
  partition: number,
  end: LogEnd,
): AsyncIterable<WatchInvalidationsResponse> {
  const { changes, filter, position, signal } = state;
  while (isAfter(end, position[partition]!)) {
    const deadline = { deadlineMs: performance.now() + REPLAY_TIMEOUT_MS, signal };
    const batch = await changes.readLog(partition, position[partition]!, REPLAY_BATCH, deadline);
    for (const change of batch) {
      if (!isAfter(end, position[partition]!)) return;
      const { epoch, seq } = change.end;
      const isPastEnd = isAfter(change.end, end);
      if (!follows(position[partition]!, change.end)) {
        yield resetTo(state, partition, isPastEnd ? end : { epoch, seq: seq - 1 });
      }
      if (isPastEnd) return;
      position[partition] = change.end;
      const message = matches(filter, change) ? changeMessage(change) : undefined;
      if (message !== undefined) yield message.message;
    }
    if (batch.length === 0) yield resetTo(state, partition, end);
  }
}

/** Moves the replay to `end`, and returns the reset that reports that changes before it may be missing. */
function resetTo({ position, encode }: Replay, partition: number, end: LogEnd): WatchInvalidationsResponse {
  const isTrimmed = position[partition]!.epoch === end.epoch && !isAfter(position[partition]!, end);
  position[partition] = end;
  const cause = isTrimmed ? WatchResetCause.TRIMMED : WatchResetCause.EPOCH_CHANGED;
  return resetMessage(cause, encode(position), partition).message;
}
