// Secure sessions: CreateSecureSession, ValidateToken, RotateToken, RevokeToken.

import { deriveSecret, mintToken, newSecret, verifyToken } from "../domain/token.ts";
import { sessionNotFound } from "../store/script_outcomes.ts";
import { partitionOfSessionId } from "../domain/session_id.ts";
import type { ServiceDependencies } from "./dependencies.ts";
import { awaitReplicas } from "./durability.ts";
import type { EncodedHandlers, SessionServiceImpl } from "./handlers.ts";
import { createNewSession } from "./new_session.ts";
import { sessionMessage } from "./session_message.ts";
import { changeFromAddress } from "./validation/ip_binding.ts";
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
      const { requestId } = request;
      const ring = keyRing();
      const verified = verifyToken(ring, tenant, request.token);
      if (verified === undefined) throw sessionNotFound();
      const repeatable = requestId !== "";
      const secret = repeatable ? deriveSecret(ring, tenant, request.token, "rotate", requestId) : newSecret();
      const rotation = { presented: verified.digest, next: secret.digest, repeatable };
      const { stored, ipMismatch } = await changeFromAddress(request.ipAddress, (address) =>
        secureSessions.rotate(verified.sessionId, rotation, address, call),
      );
      const token = mintToken(keyRing(), tenant, stored.record.sessionId, secret);
      return { session: sessionMessage(stored), token, ipMismatch };
    },

    async revokeToken(request, call) {
      const verified = verifyToken(keyRing(), call.principal.tenant, request.token);
      if (verified === undefined) return { deleted: false };
      const { sessionId, digest } = verified;
      const deleted = await secureSessions.revoke(sessionId, digest, request, call);
      const replicaCount = await awaitReplicas(deps, partitionOfSessionId(sessionId), request.durability, call);
      return { deleted, replicaCount };
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
