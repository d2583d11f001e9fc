// Secure sessions: CreateSecureSession, ValidateToken, RotateToken, RevokeToken.

import { mintToken, newSecret, verifyToken } from "../domain/token.ts";
import { sessionNotFound } from "../store/script_outcomes.ts";
import type { ServiceDependencies } from "./dependencies.ts";
import type { EncodedHandlers, SessionServiceImpl } from "./handlers.ts";
import { createNewSession } from "./new_session.ts";
import { sessionMessage } from "./session_message.ts";
import { decodeValidateTokenRequest, fromValidateTokenRequest } from "./validation/request_decoding.ts";
import { encodeValidationResponse, toValidationResponse } from "./validation/response_encoding.ts";

export function createSecureSessionService(deps: ServiceDependencies) {
  const { secureSessions, validator, keyRing } = deps;
  const methods = {
    async createSecureSession(request, call) {
      const secret = newSecret();
      const created = await createNewSession(deps, request, "secure", call, secret.digest);
      const token = mintToken(keyRing(), call.principal.tenant, created.record.sessionId, secret);
      return { session: sessionMessage(created), token };
    },

    async validateToken(request, call) {
      return toValidationResponse(await validator.validate(fromValidateTokenRequest(request), call));
    },

    async rotateToken(request, call) {
      const { tenant } = call.principal;
      const verified = verifyToken(keyRing(), tenant, request.token);
      if (verified === undefined) throw sessionNotFound();
      const secret = newSecret();
      const rotated = await secureSessions.rotate(verified.sessionId, verified.digest, secret.digest, call);
      const token = mintToken(keyRing(), tenant, rotated.record.sessionId, secret);
      return { session: sessionMessage(rotated), token };
    },

    async revokeToken(request, call) {
      const verified = verifyToken(keyRing(), call.principal.tenant, request.token);
      if (verified === undefined) return { deleted: false };
      return { deleted: await secureSessions.revoke(verified.sessionId, verified.digest, call) };
    },
  } satisfies SessionServiceImpl;

  const encodedHandlers = {
    validateToken(bytes, call) {
      const request = decodeValidateTokenRequest(bytes);
      return request && validator.validate(request, call).then(encodeValidationResponse);
    },
  } satisfies EncodedHandlers;

  return { methods, encodedHandlers };
}
