// Sessions in the store: one script for each operation, and one plain GET to validate.

import type { CallBudget, CallContext } from "../domain/call.ts";
import { SessionError } from "../domain/errors.ts";
import { ownerOf, ownerPrefixOf, partitionOfOwner } from "../domain/owner.ts";
import { newSessionId } from "../domain/session_id.ts";
import type { StoreDeps } from "./deps.ts";
import { createScriptKeys, partitionKeys, recordKey, sessionScriptKeys, userScriptKeys } from "./keys.ts";
import { decodeRecord, type SessionKind, type SessionRecord } from "./record.ts";
import { actorArg, sessionNotFound, storedSessionFromReply, unexpectedTag } from "./replies.ts";

/** A session with the fields it has if it is a hash session. */
export type StoredSession = { readonly record: SessionRecord; readonly fields: ReadonlyMap<string, string> };

/** What a new session consists of, whatever its kind. */
export type NewSession = {
  readonly userId: string;
  readonly kind: SessionKind;
  readonly idleTimeoutMs: number;
  readonly absoluteTimeoutMs: number;
  readonly identity: Uint8Array;
  readonly data: Uint8Array;
  readonly fields: Iterable<readonly [name: string, value: string]>;
  /** Empty: the caller gave none. */
  readonly requestId: string;
};

const REQUEST_ID_TTL_MS = 10 * 60_000;
const PAGE_BYTES = 1024 * 1024;

export type SessionStore = ReturnType<typeof createSessionStore>;

export function createSessionStore({ connection, scripts, settings }: StoreDeps) {
  const auditRetention = String(settings.auditRetentionMs);
  const touchInterval = String(settings.touchIntervalMs ?? -1);

  /** Creates a session, or answers the one that this request id made before. */
  async function create(session: NewSession, call: CallContext): Promise<StoredSession> {
    const owner = ownerOf(call.caller.tenant, session.userId);
    for (;;) {
      const sessionId = newSessionId(partitionOfOwner(owner));
      const { tag, values } = await scripts.run(
        "sessions_create",
        createScriptKeys(sessionId, owner, session.requestId),
        [
          sessionId,
          owner,
          String(session.kind),
          "0",
          String(session.idleTimeoutMs),
          String(session.absoluteTimeoutMs),
          "",
          asBuffer(session.identity),
          asBuffer(session.data),
          session.requestId === "" ? "0" : String(REQUEST_ID_TTL_MS),
          auditRetention,
          actorArg(call),
          ...[...session.fields].flat(),
        ],
        call,
      );
      switch (tag) {
        case "ok":
          return storedSessionFromReply(String(values[0]), values[1], values[2]);
        case "id_taken":
          continue;
        case "request_id_reused":
          throw new SessionError("REQUEST_ID_REUSED", "request_id was used to create a session of another variant");
        case "request_id_spent":
          throw new SessionError("REQUEST_ID_SPENT", "the session that request_id created has ended");
        default:
          throw unexpectedTag(tag);
      }
    }
  }

  /** Reads a session and slides its idle timeout. */
  async function get(sessionId: string, call: CallContext): Promise<StoredSession> {
    const keys = sessionScriptKeys(sessionId);
    if (keys === undefined) throw sessionNotFound();
    const args = [sessionId, ownerPrefixOf(call.caller.tenant), touchInterval];
    const { tag, values } = await scripts.run("sessions_get", keys, args, call);
    switch (tag) {
      case "ok":
        return storedSessionFromReply(sessionId, values[0], values[1]);
      case "not_found":
        throw sessionNotFound();
      default:
        throw unexpectedTag(tag);
    }
  }

  /** The record of a live session, read by one GET; slides nothing. Undefined when there is none. */
  async function find(sessionId: string, call: CallContext): Promise<SessionRecord | undefined> {
    const key = recordKey(sessionId);
    if (key === undefined) return undefined;
    const reply = await connection.send(key, ["GET", key], call);
    if (reply === null) return undefined;
    const record = decodeRecord(sessionId, reply as Buffer);
    return record.owner.startsWith(ownerPrefixOf(call.caller.tenant)) ? record : undefined;
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
    const { tag, values } = await scripts.run(
      "sessions_update",
      keys,
      [
        sessionId,
        ownerPrefixOf(call.caller.tenant),
        String(expectedVersion),
        asBuffer(data),
        auditRetention,
        actorArg(call),
      ],
      call,
    );
    switch (tag) {
      case "ok":
        return storedSessionFromReply(sessionId, values[0], values[1]);
      case "not_found":
        throw sessionNotFound();
      case "version_mismatch":
        return undefined;
      default:
        throw unexpectedTag(tag);
    }
  }

  /** Ends a session; false when there was nothing to end. */
  async function remove(sessionId: string, call: CallContext): Promise<boolean> {
    const keys = sessionScriptKeys(sessionId);
    if (keys === undefined) return false;
    const args = [sessionId, ownerPrefixOf(call.caller.tenant), "deleted", auditRetention, actorArg(call)];
    const { tag } = await scripts.run("sessions_delete", keys, args, call);
    if (tag !== "ok" && tag !== "not_found") throw unexpectedTag(tag);
    return tag === "ok";
  }

  /** Ends all sessions of a user but `exceptSessionId` (empty: none is kept); how many that were. */
  async function removeAllOfUser(userId: string, exceptSessionId: string, call: CallContext): Promise<number> {
    const owner = ownerOf(call.caller.tenant, userId);
    const args = [owner, exceptSessionId, auditRetention, actorArg(call)];
    const { tag, values } = await scripts.run("sessions_delete_user", userScriptKeys(owner), args, call);
    if (tag !== "ok") throw unexpectedTag(tag);
    return Number(values[0]);
  }

  /** One page of a user's live sessions in the order of their ids, beginning after `afterSessionId`. */
  async function listOfUser(
    userId: string,
    afterSessionId: string,
    pageSize: number,
    call: CallContext,
  ): Promise<{ sessions: StoredSession[]; more: boolean }> {
    const owner = ownerOf(call.caller.tenant, userId);
    const args = [owner, afterSessionId, String(pageSize), String(PAGE_BYTES)];
    const { tag, values } = await scripts.run("sessions_list", userScriptKeys(owner), args, call);
    if (tag !== "ok") throw unexpectedTag(tag);
    const sessions: StoredSession[] = [];
    for (let i = 1; i < values.length; i += 3) {
      sessions.push(storedSessionFromReply(String(values[i]), values[i + 1], values[i + 2]));
    }
    return { sessions, more: Number(values[0]) === 1 };
  }

  /** Tells the log of at most `limit` sessions of a partition that a timeout has ended; how many there were. */
  async function expire(partition: number, limit: number, call: CallBudget): Promise<number> {
    const args = [String(limit), auditRetention];
    const { tag, values } = await scripts.run("sessions_expire", [...partitionKeys(partition)], args, call);
    if (tag !== "ok") throw unexpectedTag(tag);
    return Number(values[0]);
  }

  return { create, get, find, updateData, remove, removeAllOfUser, listOfUser, expire };
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
