// The handlers of real-time invalidation: InvalidateSession, WatchInvalidations, RenewWatch.

import { setTimeout as sleep } from "node:timers/promises";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { InvalidationKind } from "../../gen/session/v1/watch_pb.ts";
import type { CallContext } from "../domain/call.ts";
import { SessionError } from "../domain/errors.ts";
import { ownerOf, ownerPrefixOf } from "../domain/owner.ts";
import { decodePosition, encodePosition, type Position } from "../domain/position.ts";
import { partitionOfSessionId } from "../domain/session_id.ts";
import type { TokenKeyRing } from "../domain/token.ts";
import type { ChangeLog } from "../store/watch_change_log.ts";
import type { SessionStore } from "../store/simple_sessions.ts";
import { LEASE_MS, type WatchBroadcaster } from "../watch/broadcaster.ts";
import { replay } from "../watch/resume.ts";
import { toPushStream } from "../watch/subscription.ts";
import { awaitReplicas, type DurabilityDependencies } from "./durability.ts";
import type { SessionServiceImpl } from "./handlers.ts";
import { revocationWord } from "./revocation.ts";
import type { SessionReferences } from "./session_references.ts";

/** Longer than a lease, because the clock of a cache may run a little slower than this one. */
const BARRIER_MS = LEASE_MS * 1.02;

/** Renews a subscription that another process of this instance holds; resolves to false if none holds it. */
export type RenewOnSibling = (tenant: string, watchId: string, nonce: string) => Promise<boolean>;

type WatchDeps = DurabilityDependencies & {
  readonly sessions: SessionStore;
  readonly changes: ChangeLog;
  readonly broadcaster: WatchBroadcaster;
  /** Undefined if this is the instance's only process. */
  readonly renewOnSibling: RenewOnSibling | undefined;
  readonly keyRing: () => TokenKeyRing;
  readonly references: SessionReferences;
};

/** @throws SessionError DEADLINE_EXCEEDED at once if the call's deadline is too short. */
async function passBarrier({ deadlineMs, signal }: CallContext): Promise<void> {
  if (deadlineMs - performance.now() < BARRIER_MS) {
    const text = `the session has ended, but caches may serve it for ${BARRIER_MS} ms and the deadline is earlier`;
    throw new SessionError("DEADLINE_EXCEEDED", text);
  }
  await sleep(BARRIER_MS, undefined, { signal });
}

export function createWatchService(deps: WatchDeps) {
  const { sessions, changes, broadcaster, renewOnSibling, keyRing, references } = deps;
  return {
    async invalidateSession(request, call) {
      const { userId, note, actor } = request;
      const revocationReason = revocationWord(request.reason);
      const sessionId = references.idOf(request.sessionId, call);
      const deleted = await sessions.remove(
        sessionId,
        { reason: "revoked", revocationReason, userId, note, actor },
        call,
      );
      const replicaCount = await awaitReplicas(deps, partitionOfSessionId(sessionId), request.durability, call);
      // A cache whose lease was renewed earlier may serve the session until that lease ends. One that renews from now on
      // receives the invalidation first.
      if (request.barrier) await passBarrier(call);
      return { deleted, replicaCount };
    },

    async *watchInvalidations(request, call) {
      const { tenant } = call.principal;
      const hasReferences = references.areForCaller(call);
      const filter = {
        ownerPrefix: ownerPrefixOf(tenant),
        owners: new Set(request.userIds.map((userId) => ownerOf(tenant, userId))),
        sessionIds: new Set(request.sessionIds.map((sessionId) => references.idOf(sessionId, call))),
        // Reasons without kinds select ends only.
        kinds: new Set(
          request.kinds.length === 0 && request.reasons.length > 0 ? [InvalidationKind.ENDED] : request.kinds,
        ),
        reasons: new Set(request.reasons),
        hasReferences,
      };
      const encode = (position: Position) => encodePosition(keyRing(), tenant, position);
      const { resumePosition } = request;
      const resumed = resumePosition === "" ? undefined : decodePosition(keyRing(), tenant, resumePosition);
      const { subscription, start } = await broadcaster.open(tenant, filter);
      try {
        const position = resumed ? resumePosition : encode(start);
        const value = { watchId: subscription.id, position, lease: durationFromMs(LEASE_MS), hasReferences };
        yield { event: { case: "opened" as const, value } };
        if (resumed) yield* replay(resumed, start, { changes, filter, encode, keyRing, signal: call.signal });
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
