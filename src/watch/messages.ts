// The messages of a watch. Each is made once and sent to any number of subscriptions.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { InvalidationReason } from "../../gen/session/v1/session_pb.ts";
import {
  WatchInvalidationsResponseSchema,
  WatchResetCause,
  type WatchInvalidationsResponse,
} from "../../gen/session/v1/watch_pb.ts";
import { userIdOfOwner } from "../domain/owner.ts";
import { isAfter, type ChangeId } from "../domain/position.ts";
import type { Change } from "../store/watch_change_log.ts";

/** `bytes` is the approximate size, which limits what may be queued. */
export type WatchMessage = { readonly message: WatchInvalidationsResponse; readonly bytes: number };

/** What a message takes besides its strings, roughly. */
const MESSAGE_OVERHEAD_BYTES = 64;

/**
 * Returns undefined for a creation, which invalidates nothing. A reason that this version does not know, because a newer
 * instance has written it, is UNSPECIFIED: the session has ended or changed all the same.
 */
export function reasonOf(change: Change): InvalidationReason | undefined {
  if (change.reason === "created") return undefined;
  const name = change.reason.toUpperCase() as keyof typeof InvalidationReason;
  return InvalidationReason[name] ?? InvalidationReason.UNSPECIFIED;
}

export function changeMessage(change: Change): WatchMessage | undefined {
  const reason = reasonOf(change);
  if (reason === undefined) return undefined;
  const { partition, id, sessionId, owner, version, atMs, actor } = change;
  const changeId = `${partition}-${id.epoch}-${id.seq}`;
  const time = timestampFromMs(atMs);
  const value = { sessionId, userId: userIdOfOwner(owner), reason, version, time, actor, changeId };
  return messageOf({ case: "invalidation", value });
}

/** `nonce` is that of the renewal, or empty for a periodic checkpoint. */
export function checkpointMessage(position: string, nonce: string): WatchMessage {
  return messageOf({ case: "checkpoint", value: { position, nonce } });
}

/** Without a partition, the reset concerns all of them. */
export function resetMessage(cause: WatchResetCause, position: string, partition?: number): WatchMessage {
  return messageOf({ case: "reset", value: { cause, position, partition } });
}

/** Returns why the changes between two places in a log cannot be read. */
export function resetCause(before: ChangeId, after: ChangeId): WatchResetCause {
  const isTrimmed = before.epoch === after.epoch && !isAfter(before, after);
  return isTrimmed ? WatchResetCause.TRIMMED : WatchResetCause.EPOCH_CHANGED;
}

function messageOf(event: MessageInitShape<typeof WatchInvalidationsResponseSchema>["event"]): WatchMessage {
  const message = create(WatchInvalidationsResponseSchema, { event });
  const strings = Object.values(message.event.value ?? {}).filter((member) => typeof member === "string");
  return { message, bytes: strings.reduce((sum, { length }) => sum + length, MESSAGE_OVERHEAD_BYTES) };
}
