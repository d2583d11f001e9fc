// The handlers of real-time invalidation: InvalidateSession, WatchInvalidations, WatchWithLease.

import { setTimeout as sleep } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  InvalidationKind,
  WatchOpenedSchema,
  type WatchInvalidationsRequest,
  type WatchWithLeaseRequest,
} from "../../gen/session/v1/watch_pb.ts";
import type { CallContext } from "../domain/call.ts";
import { invalidField, SessionError } from "../domain/errors.ts";
import { ownerOf, ownerPrefixOf } from "../domain/owner.ts";
import { decodePosition, encodePosition, type Position } from "../domain/position.ts";
import { partitionOfSessionId } from "../domain/session_id.ts";
import type { TokenKeyRing } from "../domain/token.ts";
import type { PushStream } from "../lib/push_stream.ts";
import type { ChangeLog } from "../store/watch_change_log.ts";
import type { SessionStore } from "../store/simple_sessions.ts";
import { LEASE_MS, type WatchBroadcaster } from "../watch/broadcaster.ts";
import type { WatchFilter } from "../watch/filters.ts";
import type { WatchResponse } from "../watch/messages.ts";
import { replay } from "../watch/resume.ts";
import { toPushStream, type Subscription } from "../watch/subscription.ts";
import { awaitReplicas, type DurabilityDependencies } from "./durability.ts";
import type { SessionServiceImpl } from "./handlers.ts";
import { revocationWord } from "./revocation.ts";
import type { SessionReferences } from "./session_references.ts";

/** Longer than a lease, because the clock of a cache may run a little slower than this one. */
const BARRIER_MS = LEASE_MS * 1.02;
/** A stream reads no further renewals while so many wait for their checkpoint. */
const MAX_PENDING_RENEWALS = 16;

type WatchDeps = DurabilityDependencies & {
  readonly sessions: SessionStore;
  readonly changes: ChangeLog;
  readonly broadcaster: WatchBroadcaster;
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

/** Returns what makes the stream of one watch. */
function createEventStream({ changes, broadcaster, keyRing, references }: WatchDeps) {
  function filterOf(request: WatchInvalidationsRequest, call: CallContext): WatchFilter {
    const { tenant } = call.principal;
    return {
      ownerPrefix: ownerPrefixOf(tenant),
      owners: new Set(request.userIds.map((userId) => ownerOf(tenant, userId))),
      sessionIds: new Set(request.sessionIds.map((sessionId) => references.idOf(sessionId, call))),
      // Reasons without kinds select ends only.
      kinds: new Set(
        request.kinds.length === 0 && request.reasons.length > 0 ? [InvalidationKind.ENDED] : request.kinds,
      ),
      reasons: new Set(request.reasons),
      hasReferences: references.areForCaller(call),
    };
  }

  /** With `follow`, the stream of a subscription is what `follow` returns for it, and it has a lease. */
  return async function* (
    request: WatchInvalidationsRequest,
    call: CallContext,
    follow?: (subscription: Subscription) => PushStream<WatchResponse>,
  ): AsyncIterable<WatchResponse | PushStream<WatchResponse>> {
    const { tenant } = call.principal;
    const filter = filterOf(request, call);
    const encode = (position: Position) => encodePosition(keyRing(), tenant, position);
    const { resumePosition } = request;
    const resumed = resumePosition === "" ? undefined : decodePosition(keyRing(), tenant, resumePosition);
    const { subscription, start } = await broadcaster.open(tenant, filter);
    try {
      const position = resumed ? resumePosition : encode(start);
      subscription.position = position;
      const lease = follow === undefined ? {} : { lease: durationFromMs(LEASE_MS) };
      const value = create(WatchOpenedSchema, { position, hasReferences: filter.hasReferences, ...lease });
      const stream = follow === undefined ? toPushStream(subscription) : follow(subscription);
      yield { event: { case: "opened", value } };
      if (resumed) yield* replay(resumed, start, { changes, filter, encode, keyRing, signal: call.signal });
      yield stream;
    } finally {
      broadcaster.close(subscription);
    }
  };
}

/**
 * Renews the lease with each request; resolves when the caller has closed its side.
 * @throws SessionError INVALID_REQUEST for a request that is no renewal.
 */
async function renewWith(
  requests: AsyncIterator<WatchWithLeaseRequest>,
  broadcaster: WatchBroadcaster,
  subscription: Subscription,
): Promise<void> {
  const pending = new Set<Promise<void>>();
  for (let next = await requests.next(); next.done !== true; next = await requests.next()) {
    const { request } = next.value;
    if (request.case !== "renewal") throw invalidField("open", "only the first request opens the watch");
    const renewal = broadcaster.renew(subscription, request.value.nonce).finally(() => pending.delete(renewal));
    pending.add(renewal);
    if (pending.size >= MAX_PENDING_RENEWALS) await Promise.race(pending);
  }
}

export function createWatchService(deps: WatchDeps) {
  const { sessions, broadcaster, references } = deps;
  const eventStream = createEventStream(deps);
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

    watchInvalidations(request, call) {
      return eventStream(request, call);
    },

    async *watchWithLease(requests, call) {
      const iterator = requests[Symbol.asyncIterator]();
      const first = await iterator.next();
      if (first.done === true) return;
      const { request } = first.value;
      if (request.case !== "open") throw invalidField("renewal", "the first request opens the watch");
      yield* eventStream(request.value, call, (subscription) => {
        // Renewals are read from here on, also while missed changes are sent.
        const renewals = renewWith(iterator, broadcaster, subscription);
        renewals.catch(() => undefined);
        return (write, end) => {
          renewals.catch(end);
          return toPushStream(subscription)(write, end);
        };
      });
    },
  } satisfies SessionServiceImpl;
}
