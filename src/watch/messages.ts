// The messages of a watch. Each is made once and sent to any number of subscriptions.

import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  InvalidationKind,
  InvalidationSchema,
  WatchCheckpointSchema,
  WatchResetCause,
  WatchResetSchema,
  type WatchInvalidationsResponse,
} from "../../gen/session/v1/watch_pb.ts";
import { tenantOfOwner, userIdOfOwner } from "../domain/owner.ts";
import { isAfter, type ChangeId } from "../domain/position.ts";
import { sessionReference } from "../domain/session_reference.ts";
import type { TokenKeyRing } from "../domain/token.ts";
import type { Change } from "../store/watch_change_log.ts";
import { invalidationReasonOf, revocationReasonOf } from "./reasons.ts";

/** A response of WatchInvalidations and of WatchWithLease, which are the same on the wire. */
export type WatchResponse = { readonly event: WatchInvalidationsResponse["event"] };

/** `bytes` is the approximate size, which limits what may be queued. */
export type WatchMessage = { readonly message: WatchResponse; readonly bytes: number };

/** If more partitions must be reset at once, one reset of everything takes their place. */
export const MAX_PARTITION_RESETS = 16;

/** What a message takes besides its strings, roughly. */
const MESSAGE_OVERHEAD_BYTES = 64;

/**
 * Returns undefined for a creation, which invalidates nothing. A reason that this version does not know, because a newer
 * instance has written it, is an end.
 */
export function kindOf({ reason }: Change): InvalidationKind | undefined {
  if (reason === "created") return undefined;
  return reason === "changed" ? InvalidationKind.CHANGED : InvalidationKind.ENDED;
}

/** Returns undefined for a change that is not sent. `sessionId` is the id of the session or a reference to it. */
export function changeMessage(change: Change, sessionId: string): WatchMessage | undefined {
  const kind = kindOf(change);
  if (kind === undefined) return undefined;
  const { partition, id, owner, version, atMs, principal, actor } = change;
  const value = create(InvalidationSchema, {
    ...{ sessionId, userId: userIdOfOwner(owner), kind, version, time: timestampFromMs(atMs), principal, actor },
    changeId: `${partition}-${id.epoch}-${id.seq}`,
    reason: invalidationReasonOf(change.reason),
    revocationReason: revocationReasonOf(change.revocationReason),
  });
  return messageOf({ case: "invalidation", value });
}

/**
 * Returns a function that makes the message of one change: once for the subscriptions that receive session ids, and once for
 * those that receive references.
 */
export function changeMessages(change: Change, keyRing: () => TokenKeyRing) {
  let withId: WatchMessage | undefined;
  let withReference: WatchMessage | undefined;
  return (hasReferences: boolean): WatchMessage | undefined => {
    const { sessionId, owner } = change;
    if (!hasReferences || change.opener === "token") return (withId ??= changeMessage(change, sessionId));
    return (withReference ??= changeMessage(change, sessionReference(keyRing(), tenantOfOwner(owner), sessionId)));
  };
}

/** `position` is empty if the watcher has it already; `nonce` is that of the renewal, or empty for a periodic checkpoint. */
export function checkpointMessage(position: string, nonce: string): WatchMessage {
  return messageOf({ case: "checkpoint", value: create(WatchCheckpointSchema, { position, nonce }) });
}

/** Without a partition, the reset concerns all of them, and has no position. */
export function resetMessage(cause: WatchResetCause, position: string, partition?: number): WatchMessage {
  const value = create(WatchResetSchema, { cause, position, ...(partition !== undefined && { partition }) });
  return messageOf({ case: "reset", value });
}

/** Returns why the changes between two places in a log cannot be read. */
export function resetCause(before: ChangeId, after: ChangeId): WatchResetCause {
  const isTrimmed = before.epoch === after.epoch && !isAfter(before, after);
  return isTrimmed ? WatchResetCause.TRIMMED : WatchResetCause.EPOCH_CHANGED;
}

function messageOf(event: WatchResponse["event"]): WatchMessage {
  const strings = Object.values(event.value ?? {}).filter((member) => typeof member === "string");
  return { message: { event }, bytes: strings.reduce((sum, { length }) => sum + length, MESSAGE_OVERHEAD_BYTES) };
}
