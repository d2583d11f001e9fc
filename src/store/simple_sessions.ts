// Operations on sessions of any kind in the store: one script for each, and one plain read for validation.

import type { CallContext } from "../domain/call.ts";
import { ownerOf } from "../domain/owner.ts";
import { runAccess } from "./access.ts";
import { asBuffer, auditArgs, ownerArg, slidesArg, type OwnedSession, type StoreDependencies } from "./dependencies.ts";
import { userScriptKeys } from "./keys.ts";
import { createRecordReader } from "./record_reader.ts";
import { readUserSessions, type SessionPage, type UserListOptions } from "./session_lists.ts";
import { storedSessionFromReply } from "./stored_session.ts";

/** On whose behalf the caller acts, and more details, for the audit trail; both may be empty. */
export type Justification = { readonly actor: string; readonly note: string };

/** What a caller presents: an id, and the SHA-256 of the secret if it is that of a token. An id alone opens no secure session. */
export type SessionCredential = { readonly sessionId: string; readonly secretDigest?: Buffer | undefined };

/** The ARGV presented_secret of a caller that presents an id only. */
export const NO_SECRET = Buffer.alloc(0);

/** How a session is ended by its id. */
export type SessionEnd = Justification & {
  /** The reason, which is also the audit event. */
  readonly reason: "deleted" | "revoked";
  /** What the caller gives as its reason, in lower case; may be empty. */
  readonly revocationReason: string;
  /** The user whose session it must be; empty: any user's. */
  readonly userId: string;
};

export type SessionStore = ReturnType<typeof createSessionStore>;

export function createSessionStore({ connection, scripts, settings }: StoreDependencies) {
  const readRecords = createRecordReader(connection);

  /**
   * Reads a session; `touch` slides its idle timeout. Whatever the caller has compared before, the session is found only if
   * the credential opens it in this step. @throws SessionError SESSION_NOT_FOUND
   */
  async function get({ sessionId, secretDigest }: SessionCredential, touch: boolean, call: CallContext) {
    const { values } = await runAccess(settings, touch, (touchIntervalMs, flags) => {
      const args = [touchIntervalMs, secretDigest ?? NO_SECRET];
      return scripts.runOnSession("simple_sessions_get", sessionId, args, call, [], flags);
    });
    return storedSessionFromReply(values);
  }

  /** Replaces the data; `touch` slides the idle timeout. Returns undefined if `expectedVersion` is neither 0 nor the session's version. */
  async function updateData(
    { sessionId, userId }: OwnedSession,
    data: Uint8Array,
    expectedVersion: bigint,
    touch: boolean,
    call: CallContext,
  ) {
    const change = [String(expectedVersion), asBuffer(data), slidesArg(touch)];
    const args = [ownerArg(userId, call), ...change, ...auditArgs(settings, call)];
    const results = ["version_mismatch"] as const;
    const reply = await scripts.runOnSession("simple_sessions_update_data", sessionId, args, call, results);
    return reply.outcome === "ok" ? storedSessionFromReply(reply.values) : undefined;
  }

  /** Ends a session; returns false if there was none. */
  async function remove(sessionId: string, end: SessionEnd, call: CallContext): Promise<boolean> {
    const { reason, revocationReason, userId, actor, note } = end;
    const args = [ownerArg(userId, call), reason, revocationReason, ...auditArgs(settings, call, actor), note];
    const { outcome } = await scripts.runOnSession("end_session", sessionId, args, call, ["not_found"]);
    return outcome === "ok";
  }

  /** Ends all sessions of a user except `exceptSessionId` (empty: no exception); returns how many ended. */
  async function removeAllOfUser(
    userId: string,
    exceptSessionId: string,
    { actor, note }: Justification,
    call: CallContext,
  ): Promise<number> {
    const owner = ownerOf(call.principal.tenant, userId);
    const args = [owner, exceptSessionId, ...auditArgs(settings, call, actor), note];
    const { values } = await scripts.run("simple_sessions_delete_user", userScriptKeys(owner), args, call);
    return Number(values[0]);
  }

  /** Reads a page of a user's live sessions: see readUserSessions. */
  async function listOfUser(userId: string, options: UserListOptions, call: CallContext): Promise<SessionPage> {
    return readUserSessions(scripts, ownerOf(call.principal.tenant, userId), options, call);
  }

  return { get, readRecords, updateData, remove, removeAllOfUser, listOfUser };
}
