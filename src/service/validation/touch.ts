// Slides the idle timeout of sessions that were validated, no more often than the touch interval demands.

import type { CallContext } from "../../domain/call.ts";
import { SessionError } from "../../domain/errors.ts";
import type { SessionRecord } from "../../store/session_record.ts";
import type { SessionStore } from "../../store/simple_sessions.ts";

type CredentialKind = Parameters<SessionStore["get"]>[1];

export type Touch = ReturnType<typeof createTouch>;

/** @param intervalMs Undefined: idle timeout / 100, at most 60 s. */
export function createTouch(sessions: Pick<SessionStore, "get">, intervalMs: number | undefined) {
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
    /** Guesses by our clock, to save store calls; the store decides whether the touch interval has passed. */
    isDue({ idleTimeoutMs, lastAccessedMs }: SessionRecord): boolean {
      return Date.now() - lastAccessedMs >= (intervalMs ?? Math.min(idleTimeoutMs / 100, 60_000));
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
