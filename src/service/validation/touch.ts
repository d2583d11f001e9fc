// Slides the idle timeout of sessions that were validated, no more often than the touch interval demands.

import type { CallContext } from "../../domain/call.ts";
import { SessionError } from "../../domain/errors.ts";
import { isOnlyWriteRefused } from "../../store/connection/errors.ts";
import type { SessionRecord } from "../../store/session_record.ts";
import type { SessionCredential, SessionStore } from "../../store/simple_sessions.ts";
import type { StoredSession } from "../../store/stored_session.ts";
import type { StoreClock } from "../../store/store_clock.ts";

export type Touch = ReturnType<typeof createTouch>;

/** Eviction goes by the last access, so a session that a limit may evict is touched as often as this. */
const EVICTABLE_INTERVAL_MS = 1000;

type Timing = Pick<SessionRecord, "idleTimeoutMs" | "lastAccessedMs" | "isEvictable">;

/** Returns the least time between two slides of a session, by the rule of src/store/lua/includes/slide.lua. */
function touchIntervalMs({ idleTimeoutMs, isEvictable }: Timing, configuredMs: number | undefined): number {
  // With more than a small share of the idle timeout, a session in steady use would idle out.
  const intervalMs =
    configuredMs === undefined ? Math.min(idleTimeoutMs / 100, 60_000) : Math.min(idleTimeoutMs / 10, configuredMs);
  return isEvictable ? Math.min(intervalMs, EVICTABLE_INTERVAL_MS) : intervalMs;
}

/** @param configuredMs The value of SA_TOUCH_INTERVAL. Undefined: idle timeout / 100, at most 60 s. */
export function createTouch(
  sessions: Pick<SessionStore, "get">,
  clock: Pick<StoreClock, "nowMs">,
  configuredMs: number | undefined,
) {
  // Concurrent requests that present the same credential and have read the same version share one access.
  const underway = new Map<string, Promise<StoredSession | undefined>>();

  /** Resolves to undefined if the credential opens no session any more. */
  async function access(presented: SessionCredential, touch: boolean, call: CallContext) {
    try {
      return await sessions.get(presented, touch, call);
    } catch (error) {
      if (error instanceof SessionError && error.reason === "SESSION_NOT_FOUND") return undefined;
      throw error;
    }
  }

  async function slideOnce(presented: SessionCredential, { version }: SessionRecord, call: CallContext) {
    // An access of an older version, which began before this request, must not answer it.
    const key = `${presented.sessionId} ${version} ${presented.secretDigest?.toString("latin1")}`;
    const shared = underway.get(key);
    // It may have failed by the deadline of another call.
    if (shared !== undefined) return shared.catch(() => access(presented, true, call));
    const accessed = access(presented, true, call).finally(() => underway.delete(key));
    underway.set(key, accessed);
    return accessed;
  }

  return {
    /**
     * Guesses whether the touch interval has passed, to save store calls; the store decides. The guess is never too late,
     * because the estimate of the store's clock is never behind it. Our own clock may be, so it only serves while the store
     * does not reply.
     */
    isDue(timing: Timing): boolean {
      const nowMs = clock.nowMs() ?? Date.now();
      return nowMs - timing.lastAccessedMs >= touchIntervalMs(timing, configuredMs);
    },

    /** Reads the session with its fields, and slides its idle timeout if `touch` is true. Undefined if it has ended. */
    read: access,

    /**
     * Records an access to the session of a record that was read before. Returns the session after it, or undefined if the
     * credential does not open it any more. If the store takes no writes now, returns the session as it was read.
     */
    async slide(presented: SessionCredential, record: SessionRecord, call: CallContext) {
      try {
        return await slideOnce(presented, record, call);
      } catch (error) {
        if (isOnlyWriteRefused(error)) return { record };
        throw error;
      }
    },
  };
}
