// Operations on sessions of any kind in the store: one script for each, and one plain read for validation.

import type { CallContext } from "../domain/call.ts";
import { ownerOf } from "../domain/owner.ts";
import { asBuffer, auditArgs, slidesArg, touchArg, type StoreDependencies } from "./dependencies.ts";
import { userScriptKeys } from "./keys.ts";
import { createRecordReader } from "./record_reader.ts";
import { storedSessionFromReply, type StoredSession } from "./stored_session.ts";

/** Why a session ends, as the change log and the audit trail name it. */
export type EndReason =
  | "deleted"
  | "revoked"
  | "evicted"
  | "expired"
  | "regenerated"
  | "token_reused"
  | "device_revoked"
  | "user_revoked";

/** One page of sessions; `more` if there are sessions after it. */
export type SessionPage = { readonly sessions: StoredSession[]; readonly more: boolean };

/** A page ends with the session that exceeds this. */
const PAGE_BYTES = 1024 * 1024;

export type SessionStore = ReturnType<typeof createSessionStore>;

export function createSessionStore({ connection, scripts, settings }: StoreDependencies) {
  const readRecords = createRecordReader(connection);

  /**
   * Reads a session; `touch` slides its idle timeout. A session that a token opens is found by `token` only, which means
   * that the caller has verified the token; any other session by `id` only. @throws SessionError SESSION_NOT_FOUND
   */
  async function get(sessionId: string, credential: "id" | "token", touch: boolean, call: CallContext) {
    const args = [touchArg(settings, touch), credential];
    const { values } = await scripts.runOnSession("simple_sessions_get", sessionId, args, call);
    return storedSessionFromReply(values);
  }

  /** Replaces the data; `touch` slides the idle timeout. Returns undefined if `expectedVersion` is neither 0 nor the session's version. */
  async function updateData(
    sessionId: string,
    data: Uint8Array,
    expectedVersion: bigint,
    touch: boolean,
    call: CallContext,
  ) {
    const args = [String(expectedVersion), asBuffer(data), slidesArg(touch), ...auditArgs(settings, call)];
    const results = ["version_mismatch"] as const;
    const reply = await scripts.runOnSession("simple_sessions_update_data", sessionId, args, call, results);
    return reply.outcome === "ok" ? storedSessionFromReply(reply.values) : undefined;
  }

  /** Ends a session; returns false if there was none. `reason` is also the audit event. */
  async function remove(sessionId: string, reason: EndReason, note: string, call: CallContext): Promise<boolean> {
    const args = [reason, ...auditArgs(settings, call), note];
    const { outcome } = await scripts.runOnSession("end_session", sessionId, args, call, ["not_found"]);
    return outcome === "ok";
  }

  /** Ends all sessions of a user except `exceptSessionId` (empty: no exception); returns how many ended. */
  async function removeAllOfUser(userId: string, exceptSessionId: string, call: CallContext): Promise<number> {
    const owner = ownerOf(call.principal.tenant, userId);
    const args = [owner, exceptSessionId, ...auditArgs(settings, call)];
    const { values } = await scripts.run("simple_sessions_delete_user", userScriptKeys(owner), args, call);
    return Number(values[0]);
  }

  /** Reads a page of a user's live sessions, or only of those on devices, in the order of their ids after `afterSessionId`. */
  async function listOfUser(
    userId: string,
    which: "all" | "devices",
    afterSessionId: string,
    pageSize: number,
    call: CallContext,
  ): Promise<SessionPage> {
    const keys = userScriptKeys(ownerOf(call.principal.tenant, userId));
    const args = [afterSessionId, String(pageSize), String(PAGE_BYTES), which];
    // 1 if there are more sessions, then session_id, record and fields of each.
    const [more, ...rest] = (await scripts.run("simple_sessions_list", keys, args, call)).values;
    const sessions: StoredSession[] = [];
    for (let i = 0; i < rest.length; i += 3) sessions.push(storedSessionFromReply(rest.slice(i, i + 3)));
    return { sessions, more: Number(more) === 1 };
  }

  return { get, readRecords, updateData, remove, removeAllOfUser, listOfUser };
}
