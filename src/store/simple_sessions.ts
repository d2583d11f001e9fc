// Sessions of any kind in the store: one script for each operation, and one plain read to validate.

import type { CallDeadline, CallContext } from "../domain/call.ts";
import { ownerOf, ownerPrefixOf } from "../domain/owner.ts";
import type { StoreDependencies } from "./dependencies.ts";
import { partitionKeys, sessionScriptKeys, userScriptKeys } from "./keys.ts";
import type { SessionRecord } from "./session_record.ts";
import { createRecordReader, type RecordReader } from "./record_reader.ts";
import { actorArg, asBuffer, sessionNotFound, storedSessionFromReply, unexpectedTag } from "./script_replies.ts";

/** A session with the fields it has if it is a hash session. */
export type StoredSession = { readonly record: SessionRecord; readonly fields: ReadonlyMap<string, string> };

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

/** One page of sessions. */
export type SessionPage = { readonly sessions: StoredSession[]; readonly more: boolean };

const PAGE_BYTES = 1024 * 1024;

export type SessionStore = ReturnType<typeof createSessionStore>;

export function createSessionStore({ connection, scripts, settings }: StoreDependencies) {
  const auditRetention = String(settings.auditRetentionMs);
  const touchInterval = String(settings.touchIntervalMs ?? -1);
  const readRecords = createRecordReader(connection);

  /**
   * Reads a session and slides its idle timeout. `proof` says what the caller has shown: a session_id opens no secure
   * session, a token only that.
   */
  async function get(sessionId: string, proof: "id" | "token", call: CallContext): Promise<StoredSession> {
    const keys = sessionScriptKeys(sessionId);
    if (keys === undefined) throw sessionNotFound();
    const args = [sessionId, ownerPrefixOf(call.principal.tenant), touchInterval, proof];
    const { tag, values } = await scripts.run("simple_sessions_get", keys, args, call);
    switch (tag) {
      case "ok":
        return storedSessionFromReply(values);
      case "not_found":
        throw sessionNotFound();
      default:
        throw unexpectedTag(tag);
    }
  }

  /**
   * The records of live sessions of any kind, in the order of their ids, read without a script; slides nothing. Undefined
   * for those that are not there. An id that was regenerated with a grace leads to its successor.
   */
  function find(sessionIds: readonly string[], call: CallContext): ReturnType<RecordReader> {
    return readRecords(sessionIds, ownerPrefixOf(call.principal.tenant), call);
  }

  /** Swaps the data; undefined when `expectedVersion` is not 0 and not the session's version. */
  async function updateData(
    sessionId: string,
    data: Uint8Array,
    expectedVersion: bigint,
    call: CallContext,
  ): Promise<StoredSession | undefined> {
    const keys = sessionScriptKeys(sessionId);
    if (keys === undefined) throw sessionNotFound();
    const prefix = ownerPrefixOf(call.principal.tenant);
    const args = [sessionId, prefix, String(expectedVersion), asBuffer(data), auditRetention, actorArg(call)];
    const { tag, values } = await scripts.run("simple_sessions_update_data", keys, args, call);
    switch (tag) {
      case "ok":
        return storedSessionFromReply(values);
      case "not_found":
        throw sessionNotFound();
      case "version_mismatch":
        return undefined;
      default:
        throw unexpectedTag(tag);
    }
  }

  /** Ends a session; false when there was nothing to end. `reason` names the audit event, too. */
  async function remove(sessionId: string, reason: EndReason, note: string, call: CallContext): Promise<boolean> {
    const keys = sessionScriptKeys(sessionId);
    if (keys === undefined) return false;
    const args = [sessionId, ownerPrefixOf(call.principal.tenant), reason, auditRetention, actorArg(call), note];
    const { tag } = await scripts.run("end_session", keys, args, call);
    if (tag !== "ok" && tag !== "not_found") throw unexpectedTag(tag);
    return tag === "ok";
  }

  /** Ends all sessions of a user but `exceptSessionId` (empty: none is kept); how many that were. */
  async function removeAllOfUser(userId: string, exceptSessionId: string, call: CallContext): Promise<number> {
    const owner = ownerOf(call.principal.tenant, userId);
    const args = [owner, exceptSessionId, auditRetention, actorArg(call)];
    const { tag, values } = await scripts.run("simple_sessions_delete_user", userScriptKeys(owner), args, call);
    if (tag !== "ok") throw unexpectedTag(tag);
    return Number(values[0]);
  }

  /** One page of a user's live sessions, or of those on devices, in the order of their ids after `afterSessionId`. */
  async function listOfUser(
    userId: string,
    which: "all" | "devices",
    afterSessionId: string,
    pageSize: number,
    call: CallContext,
  ): Promise<SessionPage> {
    const owner = ownerOf(call.principal.tenant, userId);
    const args = [owner, afterSessionId, String(pageSize), String(PAGE_BYTES), which];
    const { tag, values } = await scripts.run("simple_sessions_list", userScriptKeys(owner), args, call);
    if (tag !== "ok") throw unexpectedTag(tag);
    const sessions: StoredSession[] = [];
    for (let i = 1; i < values.length; i += 3) sessions.push(storedSessionFromReply(values.slice(i, i + 3)));
    return { sessions, more: Number(values[0]) === 1 };
  }

  /** Tells the log of at most `limit` sessions of a partition that a timeout has ended; how many there were. */
  async function expire(partition: number, limit: number, call: CallDeadline): Promise<number> {
    const args = [String(limit), auditRetention];
    const { tag, values } = await scripts.run("sweep_expired", [...partitionKeys(partition)], args, call);
    if (tag !== "ok") throw unexpectedTag(tag);
    return Number(values[0]);
  }

  return { get, find, updateData, remove, removeAllOfUser, listOfUser, expire };
}
