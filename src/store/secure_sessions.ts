// Secrets of secure sessions in the store, which holds only their SHA-256 digests.

import type { CallContext } from "../domain/call.ts";
import { ownerPrefixOf } from "../domain/owner.ts";
import { auditArgs, REQUEST_ID_TTL_MS, type StoreDependencies } from "./dependencies.ts";
import { addressArgs, addressCheckedFromReply, type AddressChecked, type AddressComparison } from "./ip_binding.ts";
import { rotateScriptKeys } from "./keys.ts";
import type { Justification } from "./simple_sessions.ts";
import { storedSessionFromReply, type StoredSession } from "./stored_session.ts";

/** The digests of the presented secret and of its replacement, which is derived if the call may be repeated. */
export type SecretRotation = { readonly presented: Buffer; readonly next: Buffer; readonly repeatable: boolean };

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
   * Replaces the secret of a session and returns the session afterwards. Changes nothing if the call is repeated. Applies the
   * ip_binding first. `sessionId` is that of a genuine token.
   * @throws SessionError SESSION_NOT_FOUND; ROTATED_CONCURRENTLY if the presented secret was rotated away within its grace,
   * and is not the one before the current one or was rotated a moment ago.
   */
  async function rotate(
    sessionId: string,
    { presented, next, repeatable }: SecretRotation,
    address: AddressComparison,
    call: CallContext,
  ): Promise<AddressChecked> {
    const args = [
      ...[sessionId, ownerPrefixOf(call.principal.tenant), presented, next],
      ...[repeatable ? REQUEST_ID_TTL_MS : 0, settings.rotationGraceMs].map(String),
      ...[...addressArgs(address), ...auditArgs(settings, call)],
    ];
    const keys = rotateScriptKeys(sessionId);
    const reply = await scripts.run("secure_sessions_rotate_token", keys, args, call, ["compare_address"]);
    return addressCheckedFromReply(reply);
  }

  /** Ends the session of a secret, also if the secret is reused; returns false if there was no such session. */
  async function revoke(
    sessionId: string,
    digest: Buffer,
    { actor, note }: Justification,
    call: CallContext,
  ): Promise<boolean> {
    const args = [digest, ...auditArgs(settings, call, actor), note];
    const results = ["not_found", "reused"] as const;
    const { outcome } = await scripts.runOnSession("secure_sessions_revoke_token", sessionId, args, call, results);
    return outcome !== "not_found";
  }

  return { check, rotate, revoke };
}
