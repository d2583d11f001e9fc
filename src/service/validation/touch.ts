// Slides the idle timeout of sessions that were validated, no more often than the touch interval demands.

import type { CallContext } from "../../domain/call.ts";
import { SessionError } from "../../domain/errors.ts";
import type { SessionRecord } from "../../store/session_record.ts";
import type { SessionStore } from "../../store/simple_sessions.ts";
import type { StoredSession } from "../../store/stored_session.ts";
import type { StoreClock } from "../../store/store_clock.ts";

type CredentialKind = Parameters<SessionStore["get"]>[1];

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
  // Concurrent requests for one session share one access.
  const underway = new Map<string, Promise<StoredSession | undefined>>();

  async function access(sessionId: string, kind: CredentialKind, touch: boolean, call: CallContext) {
    try {
      return await sessions.get(sessionId, kind, touch, call);
    } catch (error) {
      if (error instanceof SessionError && error.reason === "SESSION_NOT_FOUND") return undefined;
      throw error;
    }
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
    read({ sessionId }: SessionRecord, kind: CredentialKind, touch: boolean, call: CallContext) {
      return access(sessionId, kind, touch, call);
    },

    /** Records an access. Returns the session after it, or undefined if the session has ended in the meantime. */
    slide({ sessionId }: SessionRecord, kind: CredentialKind, call: CallContext) {
      const shared = underway.get(sessionId);
      // It may have failed by the deadline of another call.
      if (shared !== undefined) return shared.catch(() => access(sessionId, kind, true, call));
      const accessed = access(sessionId, kind, true, call).finally(() => underway.delete(sessionId));
      underway.set(sessionId, accessed);
      return accessed;
    },
  };
}
