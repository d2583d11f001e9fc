// The handlers of real-time invalidation: InvalidateSession, WatchInvalidations, RenewWatch.

import { setTimeout as sleep } from "node:timers/promises";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { InvalidationReason, InvalidationReasonSchema } from "../../gen/session/v1/session_pb.ts";
import { invalidField, SessionError } from "../domain/errors.ts";
import { ownerOf, ownerPrefixOf } from "../domain/owner.ts";
import { decodePosition, encodePosition, type Position } from "../domain/position.ts";
import type { TokenKeyRing } from "../domain/token.ts";
import type { ChangeLog } from "../store/watch_change_log.ts";
import type { EndReason, SessionStore } from "../store/simple_sessions.ts";
import { LEASE_MS, type WatchBroadcaster } from "../watch/broadcaster.ts";
import { replay } from "../watch/resume.ts";
import { toPushStream } from "../watch/subscription.ts";
import type { SessionServiceImpl } from "./handlers.ts";

/** Longer than a lease, because the clock of a cache may run a little slower than this one. */
const BARRIER_MS = LEASE_MS * 1.02;

/** Renews a subscription that another process of this instance holds; resolves to false if none holds it. */
export type RenewOnSibling = (tenant: string, watchId: string, nonce: string) => Promise<boolean>;

type WatchDeps = {
  readonly sessions: SessionStore;
  readonly changes: ChangeLog;
  readonly broadcaster: WatchBroadcaster;
  /** Undefined if this is the instance's only process. */
  readonly renewOnSibling: RenewOnSibling | undefined;
  readonly keyRing: () => TokenKeyRing;
};

export function createWatchService({ sessions, changes, broadcaster, renewOnSibling, keyRing }: WatchDeps) {
  return {
    async invalidateSession(request, call) {
      const { sessionId, note, actor } = request;
      const { principal, deadlineMs, signal } = call;
      const actedBy = actor === "" ? call : { principal: { ...principal, name: actor }, deadlineMs, signal };
      const deleted = await sessions.remove(sessionId, endReason(request.reason), note, actedBy);
      // A cache whose lease was renewed earlier may serve the session until that lease ends. One that renews from now on
      // receives the invalidation first.
      if (request.barrier) await sleep(BARRIER_MS, undefined, { signal });
      return { deleted };
    },

    async *watchInvalidations(request, call) {
      const { tenant } = call.principal;
      const filter = {
        ownerPrefix: ownerPrefixOf(tenant),
        owners: new Set(request.userIds.map((userId) => ownerOf(tenant, userId))),
        sessionIds: new Set(request.sessionIds),
        reasons: new Set(request.reasons),
      };
      const encode = (position: Position) => encodePosition(keyRing(), tenant, position);
      const { resumePosition } = request;
      const resumed = resumePosition === "" ? undefined : decodePosition(keyRing(), tenant, resumePosition);
      const { subscription, start } = await broadcaster.open(tenant, filter);
      try {
        const position = resumed ? resumePosition : encode(start);
        const value = { watchId: subscription.id, position, lease: durationFromMs(LEASE_MS) };
        yield { event: { case: "opened" as const, value } };
        if (resumed) yield* replay(resumed, start, { changes, filter, encode, signal: call.signal });
        yield toPushStream(subscription);
      } finally {
        broadcaster.close(subscription);
      }
    },

    async renewWatch({ watchId, nonce }, call) {
      const { tenant } = call.principal;
      if (!broadcaster.renew(tenant, watchId, nonce) && !(await renewOnSibling?.(tenant, watchId, nonce))) {
        throw new SessionError("WATCH_NOT_FOUND", "this instance has no such stream open");
      }
      return {};
    },
  } satisfies SessionServiceImpl;
}

function endReason(reason: InvalidationReason): EndReason {
  if (reason === InvalidationReason.CHANGED) throw invalidField("reason", "CHANGED ends no session");
  const given = reason === InvalidationReason.UNSPECIFIED ? InvalidationReason.REVOKED : reason;
  return InvalidationReasonSchema.value[given]!.localName.toLowerCase() as EndReason;
}
