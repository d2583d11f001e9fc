// Secrets of secure sessions in the store, which holds only their SHA-256 digests.

import type { CallContext } from "../domain/call.ts";
import { auditArgs, type StoreDependencies } from "./dependencies.ts";
import { storedSessionFromReply, type StoredSession } from "./stored_session.ts";

export type SecureSessionStore = ReturnType<typeof createSecureSessionStore>;

export function createSecureSessionStore({ scripts, settings }: StoreDependencies) {
  /**
   * Returns the session of a secret that is not the current one, if the secret was rotated away and is within its grace.
   * Otherwise returns undefined; the use of a secret after its grace ends the session.
   */
  async function check(sessionId: string, digest: Buffer, call: CallContext): Promise<StoredSession | undefined> {
    const args = [digest, ...auditArgs(settings, call)];
    const results = ["not_found", "reused"] as const;
    const reply = await scripts.runOnSession("secure_sessions_check_token", sessionId, args, call, results);
    return reply.outcome === "ok" ? storedSessionFromReply(reply.values) : undefined;
  }

  /**
   * Replaces the secret of `digest` by that of `newDigest` and returns the session afterwards.
   * @throws SessionError SESSION_NOT_FOUND; ROTATED_CONCURRENTLY if the secret was rotated away within its grace.
   */
  async function rotate(sessionId: string, digest: Buffer, newDigest: Buffer, call: CallContext) {
    const args = [digest, newDigest, String(settings.rotationGraceMs), ...auditArgs(settings, call)];
    const { values } = await scripts.runOnSession("secure_sessions_rotate_token", sessionId, args, call);
    return storedSessionFromReply(values);
  }

  /** Ends the session of a secret, also if the secret is reused; returns false if there was no such session. */
  async function revoke(sessionId: string, digest: Buffer, call: CallContext): Promise<boolean> {
    const args = [digest, ...auditArgs(settings, call)];
    const results = ["not_found", "reused"] as const;
    const { outcome } = await scripts.runOnSession("secure_sessions_revoke_token", sessionId, args, call, results);
    return outcome !== "not_found";
  }

  return { check, rotate, revoke };
}
