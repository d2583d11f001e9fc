// Creates sessions of any kind in the store.

import type { CallContext } from "../domain/call.ts";
import { ownerOf, partitionOfOwner } from "../domain/owner.ts";
import { newSessionId } from "../domain/session_id.ts";
import { auditArgs, asBuffer, type StoreDependencies } from "./dependencies.ts";
import { createScriptKeys } from "./keys.ts";
import type { IpBindingFlag, SessionKind } from "./session_record.ts";
import { storedSessionFromReply } from "./stored_session.ts";

/** A session to create, and the conditions under which it may be created. */
export type NewSession = {
  readonly userId: string;
  readonly kind: SessionKind;
  readonly ipBinding: IpBindingFlag;
  readonly idleTimeoutMs: number;
  readonly absoluteTimeoutMs: number;
  /** Empty unless it is a device session. */
  readonly deviceId: string;
  /** ip_address, user_agent and device as an encoded session.v1.Session. */
  readonly identity: Uint8Array;
  /** `data` as an encoded session.v1.Session. */
  readonly data: Uint8Array;
  readonly fields: Iterable<readonly [name: string, value: string]>;
  /** Empty if the caller gave none. */
  readonly requestId: string;
  /** The most sessions that the user may have, 0 for no limit, and what happens to one more. */
  readonly maxSessions: number;
  readonly onExceed: "reject" | "evict";
  /** The time when the login began, 0 if it is not known. */
  readonly authenticatedAtMs: number;
};

const REQUEST_ID_TTL_MS = 10 * 60_000;
const NO_SECRET = Buffer.alloc(0);

export type SessionCreator = ReturnType<typeof createSessionCreator>;

export function createSessionCreator({ scripts, settings }: StoreDependencies) {
  /**
   * Creates a session, or returns the one that its request id created before. `secretDigest` is the SHA-256 of a secure
   * session's secret; a repeated request replaces the secret of the session that the first one created.
   * @throws SessionError REQUEST_ID_REUSED, REQUEST_ID_SPENT, REVOKED_SINCE_LOGIN, SESSION_LIMIT_REACHED,
   * CREATE_RATE_EXCEEDED, and those of the store.
   */
  return async function create(session: NewSession, call: CallContext, secretDigest: Buffer = NO_SECRET) {
    const owner = ownerOf(call.principal.tenant, session.userId);
    for (;;) {
      const sessionId = newSessionId(partitionOfOwner(owner));
      const { outcome, values } = await scripts.run(
        "create_session",
        createScriptKeys(sessionId, owner, session.requestId),
        [
          sessionId,
          owner,
          ...[session.kind, session.ipBinding, session.idleTimeoutMs, session.absoluteTimeoutMs].map(String),
          encodeURIComponent(session.deviceId),
          asBuffer(session.identity),
          asBuffer(session.data),
          secretDigest,
          session.requestId === "" ? "0" : String(REQUEST_ID_TTL_MS),
          ...auditArgs(settings, call),
          String(session.maxSessions),
          session.onExceed,
          String(session.authenticatedAtMs),
          String(settings.createRate?.count ?? 0),
          String(settings.createRate?.periodMs ?? 0),
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
