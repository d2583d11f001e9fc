// Creating a session of any kind in the store.

import type { CallContext } from "../domain/call.ts";
import { SessionError } from "../domain/errors.ts";
import { ownerOf, partitionOfOwner } from "../domain/owner.ts";
import { newSessionId } from "../domain/session_id.ts";
import type { StoreDependencies } from "./dependencies.ts";
import { createScriptKeys } from "./keys.ts";
import type { IpBindingFlag, SessionKind } from "./session_record.ts";
import { actorArg, asBuffer, storedSessionFromReply, unexpectedTag } from "./script_replies.ts";
import type { StoredSession } from "./simple_sessions.ts";

/** What a new session consists of, and under which conditions it may be made. */
export type NewSession = {
  readonly userId: string;
  readonly kind: SessionKind;
  readonly ipBinding: IpBindingFlag;
  readonly idleTimeoutMs: number;
  readonly absoluteTimeoutMs: number;
  /** Empty but for a device session. */
  readonly deviceId: string;
  readonly identity: Uint8Array;
  readonly data: Uint8Array;
  readonly fields: Iterable<readonly [name: string, value: string]>;
  /** Empty: the caller gave none. */
  readonly requestId: string;
  /** The most sessions of the user, 0 for any number, and what to do about more. */
  readonly maxSessions: number;
  readonly onExceed: "reject" | "evict";
  /** When the login began, 0 when the caller does not say. */
  readonly authenticatedAtMs: number;
};

const REQUEST_ID_TTL_MS = 10 * 60_000;
const NO_SECRET = Buffer.alloc(0);

export type SessionCreator = ReturnType<typeof createSessionCreator>;

export function createSessionCreator({ scripts, settings }: StoreDependencies) {
  /**
   * Creates a session, or answers the one that this request id made before. A secure one has the secret of this SHA-256
   * digest afterwards; a retried one, in place of its first.
   */
  return async function create(
    session: NewSession,
    call: CallContext,
    secretDigest: Buffer = NO_SECRET,
  ): Promise<StoredSession> {
    const owner = ownerOf(call.principal.tenant, session.userId);
    for (;;) {
      const sessionId = newSessionId(partitionOfOwner(owner));
      const { tag, values } = await scripts.run(
        "create_session",
        createScriptKeys(sessionId, owner, session.requestId),
        [
          sessionId,
          owner,
          String(session.kind),
          String(session.ipBinding),
          String(session.idleTimeoutMs),
          String(session.absoluteTimeoutMs),
          encodeURIComponent(session.deviceId),
          asBuffer(session.identity),
          asBuffer(session.data),
          secretDigest,
          session.requestId === "" ? "0" : String(REQUEST_ID_TTL_MS),
          String(settings.auditRetentionMs),
          actorArg(call),
          String(session.maxSessions),
          session.onExceed,
          String(session.authenticatedAtMs),
          String(settings.createRate?.count ?? 0),
          String(settings.createRate?.periodMs ?? 0),
          ...[...session.fields].flat(),
        ],
        call,
      );
      if (tag === "ok") return storedSessionFromReply(values);
      // 160 random bits were drawn before, or the store ran the script of a lost connection: draw again.
      if (tag !== "id_taken") throw refusal(tag, Number(values[0]));
    }
  };
}

function refusal(tag: string, retryAfterMs: number): Error {
  switch (tag) {
    case "request_id_reused":
      return new SessionError("REQUEST_ID_REUSED", "request_id was used to create a session of another variant");
    case "request_id_spent":
      return new SessionError("REQUEST_ID_SPENT", "the session that request_id created has ended");
    case "revoked_since_login":
      return new SessionError("REVOKED_SINCE_LOGIN", "all sessions of the user were revoked after authenticated_at");
    case "session_limit":
      return new SessionError("SESSION_LIMIT_REACHED", "the user has as many sessions as the limit allows");
    case "rate_limited":
      return new SessionError("CREATE_RATE_EXCEEDED", "the user creates sessions too fast", { retryAfterMs });
    default:
      return unexpectedTag(tag);
  }
}
