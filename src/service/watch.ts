// Real-time invalidation: InvalidateSession, WatchInvalidations, RenewWatch.

import { setTimeout as sleep } from "node:timers/promises";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  WatchResetCause,
  type WatchInvalidationsRequest,
  type WatchInvalidationsResponse,
} from "../../gen/session/v1/watch_pb.ts";
import { InvalidationReason, InvalidationReasonSchema } from "../../gen/session/v1/session_pb.ts";
import type { CallContext } from "../domain/call.ts";
import { invalidField, SessionError } from "../domain/errors.ts";
import { ownerOf, ownerPrefixOf } from "../domain/owner.ts";
import { decodePosition, encodePosition, type LogEnd, type Position } from "../domain/position.ts";
import type { TokenKeyRing } from "../domain/token.ts";
import type { ChangeLog } from "../store/watch_change_log.ts";
import type { EndReason, SessionStore } from "../store/simple_sessions.ts";
import { matches, type WatchFilter } from "../watch/filters.ts";
import { changeMessage, LEASE_MS, type WatchBroadcaster } from "../watch/broadcaster.ts";
import { follows, isAfter } from "../watch/change_log_reader.ts";
import { toPushStream, resetMessage } from "../watch/subscription.ts";
import type { SessionServiceImpl } from "./handlers.ts";

const REPLAY_BATCH = 500;
const REPLAY_TIMEOUT_MS = 5000;
// The clocks of caches may run a little slower than ours.
const BARRIER_MS = LEASE_MS * 1.02;

/** As the hub's `renew`, for the watchers of other processes. */
export type RenewOnSibling = (tenant: string, watchId: string, nonce: string) => Promise<boolean>;

type InvalidationsDeps = {
  readonly sessions: SessionStore;
  readonly changes: ChangeLog;
  readonly hub: WatchBroadcaster;
  readonly renewOnSibling: RenewOnSibling | undefined;
  readonly keyRing: () => TokenKeyRing;
};

export function createWatchService(deps: InvalidationsDeps) {
  const { sessions, changes, hub, renewOnSibling: renewElsewhere, keyRing } = deps;
  return {
    async invalidateSession(request, call) {
      const { sessionId, note, actor } = request;
      const reason = endReason(request.reason);
      const deleted = await sessions.remove(sessionId, reason, note, actor === "" ? call : actedBy(actor, call));
      // A cache that renewed its lease before this may serve until that lease is over; one that renews now hears first.
      if (request.barrier) await sleep(BARRIER_MS, undefined, { signal: call.signal });
      return { deleted };
    },

    async *watchInvalidations(request, call) {
      const { tenant } = call.principal;
      const filter = filterOf(request, tenant);
      const { resumePosition } = request;
      const resumed = resumePosition === "" ? undefined : decodePosition(keyRing(), tenant, resumePosition);
      const { watcher, start } = await hub.open(tenant, filter);
      try {
        const position = resumed ? resumePosition : encodePosition(keyRing(), tenant, start);
        const lease = durationFromMs(LEASE_MS);
        yield { event: { case: "opened" as const, value: { watchId: watcher.id, position, lease } } };
        if (resumed) yield* replay(resumed, start, filter, call);
        yield toPushStream(watcher);
      } finally {
        hub.close(watcher);
      }
    },

    async renewWatch({ watchId, nonce }, call) {
      const { tenant } = call.principal;
      if (!hub.renew(tenant, watchId, nonce) && !(await renewElsewhere?.(tenant, watchId, nonce))) {
        throw new SessionError("WATCH_NOT_FOUND", "this instance has no such stream open");
      }
      return {};
    },
  } satisfies SessionServiceImpl;

  /** What happened after `resumed`, up to where the watcher's own queue begins. */
  async function* replay(
    resumed: Position,
    start: Position,
    filter: WatchFilter,
    call: CallContext,
  ): AsyncIterable<WatchInvalidationsResponse> {
    // Where the watcher stands, which is what a reset says: partitions still to come are where it left them.
    const at = [...resumed];
    for (const [partition, end] of start.entries()) {
      if (isAfter(at[partition]!, end)) yield resetTo(at, partition, end, call);
      else yield* replayPartition(at, partition, end, filter, call);
    }
  }

  async function* replayPartition(
    at: LogEnd[],
    partition: number,
    end: LogEnd,
    filter: WatchFilter,
    call: CallContext,
  ): AsyncIterable<WatchInvalidationsResponse> {
    while (isAfter(end, at[partition]!)) {
      const budget = { deadlineMs: performance.now() + REPLAY_TIMEOUT_MS, signal: call.signal };
      const batch = await changes.readLog(partition, at[partition]!, REPLAY_BATCH, budget);
      for (const change of batch) {
        if (!isAfter(end, at[partition]!)) return;
        const { epoch, seq } = change.end;
        const isBeyond = isAfter(change.end, end);
        if (!follows(at[partition]!, change.end)) {
          yield resetTo(at, partition, isBeyond ? end : { epoch, seq: seq - 1 }, call);
        }
        if (isBeyond) return;
        at[partition] = change.end;
        const message = matches(filter, change) ? changeMessage(change) : undefined;
        if (message !== undefined) yield message.message;
      }
      if (batch.length === 0) yield resetTo(at, partition, end, call);
    }
  }

  /** Moves the watcher on to `end`, and tells that what was between may be missing. */
  function resetTo(at: LogEnd[], partition: number, end: LogEnd, call: CallContext): WatchInvalidationsResponse {
    const sameEpoch = at[partition]!.epoch === end.epoch && !isAfter(at[partition]!, end);
    at[partition] = end;
    const cause = sameEpoch ? WatchResetCause.TRIMMED : WatchResetCause.EPOCH_CHANGED;
    return resetMessage(cause, encodePosition(keyRing(), call.principal.tenant, at), partition);
  }
}

function filterOf(request: WatchInvalidationsRequest, tenant: string): WatchFilter {
  return {
    ownerPrefix: ownerPrefixOf(tenant),
    owners: new Set(request.userIds.map((userId) => ownerOf(tenant, userId))),
    sessionIds: new Set(request.sessionIds),
    reasons: new Set(request.reasons),
  };
}

function endReason(reason: InvalidationReason): EndReason {
  if (reason === InvalidationReason.CHANGED) throw invalidField("reason", "CHANGED ends no session");
  const named = reason === InvalidationReason.UNSPECIFIED ? InvalidationReason.REVOKED : reason;
  return InvalidationReasonSchema.value[named]!.localName.toLowerCase() as EndReason;
}

function actedBy(name: string, call: CallContext): CallContext {
  return { principal: { ...call.principal, name }, deadlineMs: call.deadlineMs, signal: call.signal };
}
