// Changes of living sessions in the store.

import type { CallContext } from "../domain/call.ts";
import { ownerOf, ownerPrefixOf } from "../domain/owner.ts";
import { partitionOfSessionId } from "../domain/session_id.ts";
import {
  asBuffer,
  auditArgs,
  ownerArg,
  REQUEST_ID_TTL_MS,
  type OwnedSession,
  type StoreDependencies,
} from "./dependencies.ts";
import { auditKeys, rotateScriptKeys } from "./keys.ts";
import { sessionNotFound } from "./script_outcomes.ts";
import type { SessionRecord } from "./session_record.ts";
import { storedSessionFromReply, type StoredSession } from "./stored_session.ts";

/** What a session has after an update. Undefined: as before. */
export type SessionUpdate = {
  readonly idleTimeoutMs: number | undefined;
  readonly absoluteExpiresMs: number | undefined;
  readonly identity: Uint8Array;
  readonly labels: Uint8Array;
  readonly flags: number;
  /** For the audit trail. */
  readonly note: string;
  readonly actor: string;
};

/** How and when a user proved who they are, and the digests of the presented secret and of its replacement, if any. */
export type NewAuthentication = {
  readonly authentication: Uint8Array;
  /** -1 for the time of the call. */
  readonly authenticatedAtMs: number;
  readonly presented: Buffer | undefined;
  readonly next: Buffer | undefined;
  /** Whether the call may be repeated, as in SecretRotation. */
  readonly repeatable: boolean;
  readonly actor: string;
};

const NO_SECRET = Buffer.alloc(0);

export type SessionUpdateStore = ReturnType<typeof createSessionUpdateStore>;

export function createSessionUpdateStore({ connection, scripts, settings }: StoreDependencies) {
  /**
   * Updates the session of a record that was read before. Resolves to undefined if the session has changed since.
   * @throws SessionError SESSION_NOT_FOUND; SCOPE_MISSING; INVALID_REQUEST for a deadline that is out of range.
   */
  async function update(
    record: SessionRecord,
    userId: string,
    update: SessionUpdate,
    call: CallContext,
  ): Promise<StoredSession | undefined> {
    const args = [
      ownerArg(userId, call),
      ...[record.version, update.idleTimeoutMs ?? -1, update.absoluteExpiresMs ?? -1].map(String),
      String(settings.absoluteTimeoutMaxMs),
      call.principal.scopes.has("extend") ? "1" : "0",
      ...[asBuffer(update.identity), asBuffer(update.labels), String(update.flags)],
      ...[...auditArgs(settings, call, update.actor), update.note],
    ];
    const results = ["version_mismatch"] as const;
    const reply = await scripts.runOnSession("session_updates_update", record.sessionId, args, call, results);
    return reply.outcome === "ok" ? storedSessionFromReply(reply.values) : undefined;
  }

  /**
   * Records an authentication; changes nothing if the call is repeated.
   * @throws SessionError SESSION_NOT_FOUND, AUTHENTICATED_IN_FUTURE; ROTATED_CONCURRENTLY as for a rotation.
   */
  async function authenticate(
    { sessionId, userId }: OwnedSession,
    { authentication, authenticatedAtMs, presented, next, repeatable, actor }: NewAuthentication,
    call: CallContext,
  ): Promise<StoredSession> {
    if (partitionOfSessionId(sessionId) === undefined) throw sessionNotFound();
    const args = [
      ...[sessionId, ownerPrefixOf(call.principal.tenant), ownerArg(userId, call)],
      ...[presented ?? NO_SECRET, next ?? NO_SECRET],
      ...[repeatable ? REQUEST_ID_TTL_MS : 0, settings.rotationGraceMs].map(String),
      ...[asBuffer(authentication), String(authenticatedAtMs), ...auditArgs(settings, call, actor)],
    ];
    const { values } = await scripts.run("session_updates_authenticate", rotateScriptKeys(sessionId), args, call);
    return storedSessionFromReply(values);
  }

  /** Reads the clock of the node that holds the user's sessions, in whole milliseconds since 1970. */
  async function timeMs(userId: string, call: CallContext): Promise<number> {
    const key = auditKeys(ownerOf(call.principal.tenant, userId))[0]!;
    const [seconds, micros] = (await connection.send(key, ["TIME"], call)) as Buffer[];
    return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
  }

  return { update, authenticate, timeMs };
}
