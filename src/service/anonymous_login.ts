// The login of an anonymous session: RegenerateSession with a user_id. The session moves to the partition of its user, which no
// single script can do: a script marks it as moving, so that nothing changes it but its end; a second one creates the user's
// session with everything that it has; a third one ends the anonymous one. If the process dies in between, the mark runs out,
// and the anonymous session goes on as if nothing had happened; a session that was created until then is known to nobody.

import { randomUUID } from "node:crypto";
import type { RegenerateSessionRequest } from "../../gen/session/v1/regeneration_pb.ts";
import { LimitPer } from "../../gen/session/v1/session_pb.ts";
import type { CallContext } from "../domain/call.ts";
import { invalidField } from "../domain/errors.ts";
import { sessionNotFound } from "../store/script_outcomes.ts";
import { recordFlags, RECORD_KIND, type SessionRecord } from "../store/session_record.ts";
import type { NewSession } from "../store/create_session.ts";
import type { StoredSession } from "../store/stored_session.ts";
import type { ServiceDependencies } from "./dependencies.ts";
import { authenticatedAtMs, limitOf } from "./new_session.ts";
import { encodeAuthentication, sessionMessage } from "./session_message.ts";

/** What a request presents: the session's id, and for a token also its digest and the secret that replaces it. */
export type PresentedSession = {
  readonly sessionId: string;
  readonly secrets: { readonly presented: Buffer; readonly next: Buffer } | undefined;
};

type Login = { readonly stored: StoredSession; readonly ipMismatch: boolean };

/**
 * Makes an anonymous session that of the request's user. Resolves to undefined if the session has a user already.
 * @throws SessionError SESSION_NOT_FOUND, and those of a create.
 */
export async function loginAnonymousSession(
  deps: ServiceDependencies,
  { sessionId, secrets }: PresentedSession,
  request: RegenerateSessionRequest,
  call: CallContext,
): Promise<Login | undefined> {
  const { regeneration, create, sessions, checkIpBinding } = deps;
  const { requestId, ipAddress } = request;
  const what = { sessionId, requestId, ...(secrets && { secrets }) };
  const moveId = randomUUID();
  const move = await regeneration.beginMove(what, moveId, call);
  if (move.state === "owned") return undefined;
  if (move.state === "moved") return retriedLogin(deps, move.successor, { sessionId, secrets }, request, call);

  const { record } = move.stored;
  let created: StoredSession;
  let ipMismatch = false;
  try {
    const ip = await checkIpBinding(record, { sessionId, secretDigest: secrets?.presented }, ipAddress, call);
    if (ip === "ended") throw sessionNotFound();
    ipMismatch = ip === "mismatch";
    created = await create(movedSession(move.stored, request, deps), call, secrets?.next);
  } catch (error) {
    await regeneration.endMove(what, moveId, "", call).catch(() => undefined);
    throw error;
  }
  if (!(await regeneration.endMove(what, moveId, created.record.sessionId, call))) {
    // The anonymous session has ended meanwhile, so it must not live on under another id.
    const end = {
      reason: "deleted",
      revocationReason: "",
      userId: "",
      actor: "",
      note: "ended before the login was complete",
    } as const;
    await sessions.remove(created.record.sessionId, end, call);
    throw sessionNotFound();
  }
  await rememberLogin(deps, created.record, call);
  return { stored: created, ipMismatch };
}

/** The login has been made before with this request id, and its response was lost. */
async function retriedLogin(
  deps: ServiceDependencies,
  successorId: string,
  { secrets }: PresentedSession,
  { userId }: RegenerateSessionRequest,
  call: CallContext,
): Promise<Login> {
  const stored = await deps.sessions.get({ sessionId: successorId, secretDigest: secrets?.next }, false, call);
  const { record } = stored;
  const hasNextSecret = secrets === undefined || record.secretDigest.equals(secrets.next);
  if (record.sessionId !== successorId || record.userId !== userId || !hasNextSecret) throw sessionNotFound();
  await rememberLogin(deps, record, call);
  return { stored, ipMismatch: false };
}

/** The session is older than the login, whose time is that of the last access. See createNewSession for a failure of this. */
function rememberLogin(
  { deviceSessions }: ServiceDependencies,
  record: SessionRecord,
  call: CallContext,
): Promise<void> {
  return deviceSessions.remember(record, record.lastAccessedMs, call);
}

/** Returns the user's session with everything that the anonymous one has. */
function movedSession(
  { record, fields }: StoredSession,
  request: RegenerateSessionRequest,
  { defaults }: ServiceDependencies,
): NewSession {
  const { userId, authentication, limit } = request;
  const session = sessionMessage({ record });
  if (limit?.per === LimitPer.LABEL && !Object.hasOwn(session.labels, limit.labelKey)) {
    throw invalidField("limit.label_key", "the session has no such label");
  }
  const limits = limitOf({ userId, limit, labels: session.labels }, defaults);
  const isEvictable = limits.maxSessions > 0 && limits.onExceed === "evict";
  return {
    userId,
    method: record.isOpenedByToken ? "secure" : "simple",
    kind: record.isOpenedByToken ? RECORD_KIND.token : RECORD_KIND.id,
    flags: recordFlags(record.ipBinding, session.device?.type ?? 0, isEvictable),
    ...timeoutsOf(record),
    deviceId: record.deviceId,
    identity: record.identity,
    data: record.data,
    labels: record.labels,
    authentication: authentication ? encodeAuthentication(authentication) : record.authentication,
    authenticatedAtMs: authentication ? authenticatedAtMs(authentication) : record.authenticatedMs,
    fields,
    requestId: "",
    ...limits,
    actor: "",
    note: "anonymous until this login",
    moved: record,
  };
}

function timeoutsOf({ idleTimeoutMs, absoluteExpiresMs, createdMs }: SessionRecord) {
  return { idleTimeoutMs, absoluteTimeoutMs: absoluteExpiresMs - createdMs };
}
