// Slides the idle timeout of sessions that were validated, no more often than the touch interval demands.

import type { CallContext } from "../../domain/call.ts";
import { SessionError } from "../../domain/errors.ts";
import type { SessionRecord } from "../../store/session_record.ts";
import type { SessionStore } from "../../store/simple_sessions.ts";
import type { StoreClock } from "../../store/store_clock.ts";

type CredentialKind = Parameters<SessionStore["get"]>[1];

export type Touch = ReturnType<typeof createTouch>;

/** Returns the least time between two slides of a session, by the rule of src/store/lua/includes/slide.lua. */
function touchIntervalMs(idleTimeoutMs: number, configuredMs: number | undefined): number {
  if (configuredMs === undefined) return Math.min(idleTimeoutMs / 100, 60_000);
  // With more than a small share of the idle timeout, a session in steady use would idle out.
  return Math.min(idleTimeoutMs / 10, configuredMs);
}

/** @param configuredMs The value of SA_TOUCH_INTERVAL. Undefined: idle timeout / 100, at most 60 s. */
export function createTouch(
  sessions: Pick<SessionStore, "get">,
  clock: Pick<StoreClock, "nowMs">,
  configuredMs: number | undefined,
) {
  // Concurrent requests for one session share one access.
  const underway = new Map<string, Promise<SessionRecord | undefined>>();

  async function access(sessionId: string, kind: CredentialKind, call: CallContext) {
    try {
      return (await sessions.get(sessionId, kind, call)).record;
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
    isDue({ idleTimeoutMs, lastAccessedMs }: Pick<SessionRecord, "idleTimeoutMs" | "lastAccessedMs">): boolean {
      const nowMs = clock.nowMs() ?? Date.now();
      return nowMs - lastAccessedMs >= touchIntervalMs(idleTimeoutMs, configuredMs);
    },

    /** Records an access. Returns the record after it, or undefined if the session has ended in the meantime. */
    slide({ sessionId }: SessionRecord, kind: CredentialKind, call: CallContext) {
      const shared = underway.get(sessionId);
      // It may have failed by the deadline of another call.
      if (shared !== undefined) return shared.catch(() => access(sessionId, kind, call));
      const accessed = access(sessionId, kind, call).finally(() => underway.delete(sessionId));
      underway.set(sessionId, accessed);
      return accessed;
    },
  };
}
