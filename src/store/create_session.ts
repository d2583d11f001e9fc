// Creates sessions of any kind in the store.

import type { CallContext } from "../domain/call.ts";
import { anonymousOwnerOf, ownerOf, partitionOfOwner } from "../domain/owner.ts";
import { newSessionId } from "../domain/session_id.ts";
import { auditArgs, asBuffer, REQUEST_ID_TTL_MS, type StoreDependencies } from "./dependencies.ts";
import { createScriptKeys } from "./keys.ts";
import type { RecordKind } from "./session_record.ts";
import { storedSessionFromReply } from "./stored_session.ts";

/** A session to create, and the conditions under which it may be created. */
export type NewSession = {
  /** Empty for an anonymous session. */
  readonly userId: string;
  /** The method that creates it: a request id belongs to one method. */
  readonly method: "simple" | "hash" | "secure" | "device";
  readonly kind: RecordKind;
  /** As recordFlags makes them. */
  readonly flags: number;
  readonly idleTimeoutMs: number;
  readonly absoluteTimeoutMs: number;
  /** Empty if it has no device. */
  readonly deviceId: string;
  /** ip_address, user_agent and device as an encoded session.v1.Session. */
  readonly identity: Uint8Array;
  /** `data` as an encoded session.v1.Session. */
  readonly data: Uint8Array;
  /** `labels` as an encoded session.v1.Session. */
  readonly labels: Uint8Array;
  /** An encoded session.v1.Authentication without its time. */
  readonly authentication: Uint8Array;
  /** When the user proved who they are: 0 if nothing is known about it, -1 for the time of the create. */
  readonly authenticatedAtMs: number;
  readonly fields: Iterable<readonly [name: string, value: string]>;
  /** Empty if the caller gave none. */
  readonly requestId: string;
  /** What a session keeps that a login moves to its user; undefined for a new session. */
  readonly moved?: { readonly version: bigint; readonly createdExactMs: number; readonly absoluteExpiresMs: number };
  /** The most sessions that the user may have, 0 for no limit, which of them count, and what happens to one more. */
  readonly maxSessions: number;
  /** `user`: all; `device_type`: those on a device of the same type; else those with this label, a map entry of `labels`. */
  readonly limitGroup: "user" | "device_type" | Uint8Array;
  readonly onExceed: "reject" | "evict";
  /** On whose behalf the caller acts, and more details, for the audit trail; both may be empty. */
  readonly actor: string;
  readonly note: string;
};

const NO_SECRET = Buffer.alloc(0);

export type SessionCreator = ReturnType<typeof createSessionCreator>;

export function createSessionCreator({ scripts, settings }: StoreDependencies) {
  /**
   * Creates a session, or returns the one that its request id created before. `secretDigest` is the SHA-256 of the
   * secret if a token opens the session; a repeated request replaces the secret of the session that the first one created.
   * @throws SessionError REQUEST_ID_REUSED, REQUEST_ID_SPENT, AUTHENTICATED_IN_FUTURE, REVOKED_SINCE_LOGIN,
   * SESSION_LIMIT_REACHED, CREATE_RATE_EXCEEDED, and those of the store.
   */
  return async function create(session: NewSession, call: CallContext, secretDigest: Buffer = NO_SECRET) {
    const { userId, requestId } = session;
    const { tenant } = call.principal;
    const owner = userId === "" ? anonymousOwnerOf(tenant, requestId) : ownerOf(tenant, userId);
    const createRate = userId === "" || session.moved ? undefined : settings.createRate;
    for (;;) {
      const sessionId = newSessionId(partitionOfOwner(owner));
      const { outcome, values } = await scripts.run(
        "create_session",
        createScriptKeys(sessionId, owner, session.requestId),
        [
          sessionId,
          owner,
          session.method,
          ...[session.kind, session.flags, session.idleTimeoutMs, session.absoluteTimeoutMs].map(String),
          encodeURIComponent(session.deviceId),
          ...[session.identity, session.data, session.labels, session.authentication].map(asBuffer),
          String(session.authenticatedAtMs),
          secretDigest,
          session.requestId === "" ? "0" : String(REQUEST_ID_TTL_MS),
          ...auditArgs(settings, call, session.actor),
          session.note,
          String(session.maxSessions),
          typeof session.limitGroup === "string" ? session.limitGroup : asBuffer(session.limitGroup),
          session.onExceed,
          ...[createRate?.count ?? 0, createRate?.periodMs ?? 0, settings.tenantIndex].map(String),
          ...[session.moved?.version ?? 0, session.moved?.createdExactMs ?? 0].map(String),
          String(session.moved?.absoluteExpiresMs ?? 0),
          ...[...session.fields].flat(),
        ],
        call,
        ["id_taken"],
      );
      if (outcome === "ok") return storedSessionFromReply(values);
      // Either the same 160 random bits were drawn before, or the store ran the script of a lost connection: draw again.
    }
  };
}
