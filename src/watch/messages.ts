// The messages of a watch. Each is made once and sent to any number of subscriptions.

import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { InvalidationReason } from "../../gen/session/v1/session_pb.ts";
import {
  WatchInvalidationsResponseSchema,
  type WatchInvalidationsResponse,
  type WatchResetCause,
} from "../../gen/session/v1/watch_pb.ts";
import { userIdOfOwner } from "../domain/owner.ts";
import type { Change } from "../store/watch_change_log.ts";

/** `bytes` is the approximate size, which limits what may be queued. */
export type WatchMessage = { readonly message: WatchInvalidationsResponse; readonly bytes: number };

/** What a message takes besides its strings, roughly. */
const MESSAGE_OVERHEAD_BYTES = 64;

/** Returns undefined for a change that invalidates nothing, such as a creation. */
export function reasonOf(change: Change): InvalidationReason | undefined {
  return InvalidationReason[change.reason.toUpperCase() as keyof typeof InvalidationReason];
}

/** Returns undefined for a change that invalidates nothing. */
export function changeMessage(change: Change): WatchMessage | undefined {
  const reason = reasonOf(change);
  if (reason === undefined) return undefined;
  const { partition, end, sessionId, owner, version, atMs, actor } = change;
  const changeId = `${partition}-${end.epoch}-${end.seq}`;
  const at = timestampFromMs(atMs);
  const value = { sessionId, userId: userIdOfOwner(owner), reason, version, at, actor, changeId };
  return sized(create(WatchInvalidationsResponseSchema, { event: { case: "invalidation", value } }));
}

/** `nonce` is that of the renewal, or empty for a periodic checkpoint. */
export function checkpointMessage(position: string, nonce: string): WatchMessage {
  return sized(create(WatchInvalidationsResponseSchema, { event: { case: "checkpoint", value: { position, nonce } } }));
}

/** Without a partition, the reset concerns all of them. */
export function resetMessage(cause: WatchResetCause, position: string, partition?: number): WatchMessage {
  const value = { cause, position, partition };
  return sized(create(WatchInvalidationsResponseSchema, { event: { case: "reset", value } }));
}

function sized(message: WatchInvalidationsResponse): WatchMessage {
  const { value = {} } = message.event;
  const strings = Object.values(value).filter((member) => typeof member === "string");
  return { message, bytes: strings.reduce((sum, { length }) => sum + length, MESSAGE_OVERHEAD_BYTES) };
}
