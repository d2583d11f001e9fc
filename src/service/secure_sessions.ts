// Secure sessions: CreateSecureSession, ValidateToken, RotateToken, RevokeToken.

import type { CallContext } from "../domain/call.ts";
import { mintToken, newSecret, openToken, type OpenedToken, type TokenKeyRing } from "../domain/token.ts";
import type { SessionCreator } from "../store/create_session.ts";
import { SESSION_KIND } from "../store/session_record.ts";
import { sessionNotFound } from "../store/script_outcomes.ts";
import type { SecureSessionStore } from "../store/secure_sessions.ts";
import type { EncodedHandlers, SessionServiceImpl } from "./handlers.ts";
import { newSession, type SessionDefaults } from "./new_session.ts";
import { encodeData, storedSessionMessage } from "./session_message.ts";
import { decodeValidateTokenRequest } from "./validation/request_decoding.ts";
import { encodeValidateTokenResponse } from "./validation/response_encoding.ts";
import { toValidationResponse } from "./validation/response_message.ts";
import type { SessionValidator } from "./validation/validator.ts";

type TokensDeps = {
  readonly create: SessionCreator;
  readonly tokens: SecureSessionStore;
  readonly validate: SessionValidator;
  /** The keys in force now; they change while the service runs. */
  readonly keyRing: () => TokenKeyRing;
  readonly defaults: SessionDefaults;
};

export function createSecureSessionService({ create, tokens, validate, keyRing, defaults }: TokensDeps) {
  const methods = {
    async createSecureSession(request, call) {
      const data = encodeData(request.data);
      const secret = newSecret();
      const session = newSession(request, SESSION_KIND.secure, defaults, { data });
      const created = await create(session, call, secret.digest);
      const token = mintToken(keyRing(), call.principal.tenant, created.record.sessionId, secret);
      return { session: storedSessionMessage(created), token };
    },

    async validateToken({ token, noTouch, ipAddress }, call) {
      return toValidationResponse(
        await validate.validate({ credentialKind: "token", credential: token, touch: !noTouch, ipAddress }, call),
      );
    },

    async rotateToken(request, call) {
      const { sessionId, digest } = open(request.token, call);
      const next = newSecret();
      const rotated = await tokens.rotate(sessionId, digest, next.digest, call);
      const token = mintToken(keyRing(), call.principal.tenant, rotated.record.sessionId, next);
      return { session: storedSessionMessage(rotated), token };
    },

    async revokeToken(request, call) {
      const opened = openToken(keyRing(), call.principal.tenant, request.token);
      return { deleted: opened !== undefined && (await tokens.revoke(opened.sessionId, opened.digest, call)) };
    },
  } satisfies SessionServiceImpl;

  const direct = {
    validateToken(request, call) {
      const question = decodeValidateTokenRequest(request);
      return question && validate.validate(question, call).then(encodeValidateTokenResponse);
    },
  } satisfies EncodedHandlers;

  function open(token: string, call: CallContext): OpenedToken {
    const opened = openToken(keyRing(), call.principal.tenant, token);
    if (opened === undefined) throw sessionNotFound();
    return opened;
  }

  return { methods, direct };
}
