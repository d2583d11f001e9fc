// Secrets of secure sessions in the store, which knows them by their SHA-256 digest only.

import type { CallContext } from "../domain/call.ts";
import { SessionError } from "../domain/errors.ts";
import { ownerPrefixOf } from "../domain/owner.ts";
import type { StoreDependencies } from "./dependencies.ts";
import { sessionScriptKeys } from "./keys.ts";
import { actorArg, sessionNotFound, storedSessionFromReply, unexpectedTag } from "./script_replies.ts";
import type { StoredSession } from "./simple_sessions.ts";

export type SecureSessionStore = ReturnType<typeof createSecureSessionStore>;

export function createSecureSessionStore({ scripts, settings }: StoreDependencies) {
  const auditRetention = String(settings.auditRetentionMs);
  const graceMs = String(settings.rotationGraceMs);

  /**
   * The session of a secret that is not the current one: undefined unless it was rotated away within its grace. A reuse
   * after that ends the session.
   */
  async function check(sessionId: string, digest: Buffer, call: CallContext): Promise<StoredSession | undefined> {
    const args = [sessionId, ownerPrefixOf(call.principal.tenant), digest, auditRetention, actorArg(call)];
    const { tag, values } = await scripts.run("secure_sessions_check_token", sessionScriptKeys(sessionId)!, args, call);
    switch (tag) {
      case "ok":
        return storedSessionFromReply(values);
      case "not_found":
      case "reused":
        return undefined;
      default:
        throw unexpectedTag(tag);
    }
  }

  /** Replaces the secret of `digest`; the session afterwards. */
  async function rotate(
    sessionId: string,
    digest: Buffer,
    newDigest: Buffer,
    call: CallContext,
  ): Promise<StoredSession> {
    const prefix = ownerPrefixOf(call.principal.tenant);
    const args = [sessionId, prefix, digest, newDigest, graceMs, auditRetention, actorArg(call)];
    const { tag, values } = await scripts.run(
      "secure_sessions_rotate_token",
      sessionScriptKeys(sessionId)!,
      args,
      call,
    );
    switch (tag) {
      case "ok":
        return storedSessionFromReply(values);
      case "rotated_concurrently":
        throw new SessionError("ROTATED_CONCURRENTLY", "the token was rotated by another call");
      case "not_found":
      case "reused":
        throw sessionNotFound();
      default:
        throw unexpectedTag(tag);
    }
  }

  /** Ends the session of a secret; false when it was gone. */
  async function revoke(sessionId: string, digest: Buffer, call: CallContext): Promise<boolean> {
    const args = [sessionId, ownerPrefixOf(call.principal.tenant), digest, auditRetention, actorArg(call)];
    const { tag } = await scripts.run("secure_sessions_revoke_token", sessionScriptKeys(sessionId)!, args, call);
    if (tag !== "ok" && tag !== "not_found" && tag !== "reused") throw unexpectedTag(tag);
    return tag !== "not_found";
  }

  return { check, rotate, revoke };
}
