// Secure sessions: CreateSecureSession, ValidateToken, RotateToken, RevokeToken.

import { timingSafeEqual } from "node:crypto";
import { Verdict } from "../../gen/session/v1/session_pb.ts";
import type { CallContext } from "../domain/call.ts";
import { SessionError } from "../domain/errors.ts";
import { mintToken, newSecret, openToken, type OpenedToken, type TokenKeyRing } from "../domain/token.ts";
import type { SessionCreator } from "../store/create.ts";
import { SESSION_KIND, type SessionRecord } from "../store/record.ts";
import { sessionNotFound } from "../store/replies.ts";
import type { SessionStore } from "../store/sessions.ts";
import type { TokenStore } from "../store/tokens.ts";
import type { SessionServiceImpl } from "./contract.ts";
import { newSession, type SessionDefaults } from "./create_request.ts";
import type { IpBindingCheck } from "./ip_binding.ts";
import { encodeData, sessionMessage, storedSessionMessage } from "./session_message.ts";
import { INVALID } from "./sessions.ts";

type TokensDeps = {
  readonly create: SessionCreator;
  readonly sessions: SessionStore;
  readonly tokens: TokenStore;
  readonly checkIpBinding: IpBindingCheck;
  /** Whether it is time to slide a session; a guess of ours, which the store decides. */
  readonly touchIsDue: (record: SessionRecord) => boolean;
  /** The keys in force now; they change while the service runs. */
  readonly keyRing: () => TokenKeyRing;
  readonly defaults: SessionDefaults;
};

export function createTokensService({
  create,
  sessions,
  tokens,
  checkIpBinding,
  touchIsDue,
  keyRing,
  defaults,
}: TokensDeps) {
  return {
    async createSecureSession(request, call) {
      const data = encodeData(request.data);
      const secret = newSecret();
      const session = newSession(request, SESSION_KIND.secure, defaults, { data });
      const created = await create(session, call, secret.digest);
      const token = mintToken(keyRing(), call.caller.tenant, created.record.sessionId, secret);
      return { session: storedSessionMessage(created), token };
    },

    async validateToken(request, call) {
      const opened = openToken(keyRing(), call.caller.tenant, request.token);
      const record = opened && (await findByToken(opened, call));
      if (!record) return INVALID;
      const ip = await checkIpBinding(record, sessionMessage(record), request.ipAddress, call);
      const touched = ip === "ended" || request.noTouch ? record : await touch(record, call);
      if (ip === "ended" || !touched) return INVALID;
      return { verdict: Verdict.VALID, session: sessionMessage(touched), ipMismatch: ip === "mismatch" };
    },

    async rotateToken(request, call) {
      const { sessionId, digest } = open(request.token, call);
      const next = newSecret();
      const rotated = await tokens.rotate(sessionId, digest, next.digest, call);
      const token = mintToken(keyRing(), call.caller.tenant, rotated.record.sessionId, next);
      return { session: storedSessionMessage(rotated), token };
    },

    async revokeToken(request, call) {
      const opened = openToken(keyRing(), call.caller.tenant, request.token);
      return { deleted: opened !== undefined && (await tokens.revoke(opened.sessionId, opened.digest, call)) };
    },
  } satisfies SessionServiceImpl;

  function open(token: string, call: CallContext): OpenedToken {
    const opened = openToken(keyRing(), call.caller.tenant, token);
    if (opened === undefined) throw sessionNotFound();
    return opened;
  }

  async function findByToken(
    { sessionId, digest }: OpenedToken,
    call: CallContext,
  ): Promise<SessionRecord | undefined> {
    const record = await sessions.find(sessionId, call);
    if (record?.secretDigest === undefined) return undefined;
    if (timingSafeEqual(record.secretDigest, digest)) return record;
    // Whether the secret is within its grace, or reused, is decided by the store's clock.
    return (await tokens.check(sessionId, digest, call))?.record;
  }

  /** The record after the access; undefined when the session ended in between. */
  async function touch(record: SessionRecord, call: CallContext): Promise<SessionRecord | undefined> {
    if (!touchIsDue(record)) return record;
    try {
      return (await sessions.get(record.sessionId, "token", call)).record;
    } catch (error) {
      if (error instanceof SessionError && error.reason === "SESSION_NOT_FOUND") return undefined;
      throw error;
    }
  }
}

/** Whether the touch interval has passed by our clock; undefined: idle/100, at most 60 s. */
export function createTouchIsDue(touchIntervalMs: number | undefined): (record: SessionRecord) => boolean {
  return (record) =>
    Date.now() - record.lastAccessedMs >= (touchIntervalMs ?? Math.min(record.idleTimeoutMs / 100, 60_000));
}
