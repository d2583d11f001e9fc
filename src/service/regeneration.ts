// Regeneration: RegenerateSession. src/service/anonymous_login.ts has its login of a user.

import { deriveSecret, mintToken, newSecret, verifyToken, type Secret } from "../domain/token.ts";
import type { RegenerateSessionRequest } from "../../gen/session/v1/regeneration_pb.ts";
import type { CallContext } from "../domain/call.ts";
import { sessionNotFound } from "../store/script_outcomes.ts";
import type { StoredSession } from "../store/stored_session.ts";
import { loginAnonymousSession, type PresentedSession } from "./anonymous_login.ts";
import type { ServiceDependencies } from "./dependencies.ts";
import type { SessionServiceImpl } from "./handlers.ts";
import { sessionMessage } from "./session_message.ts";
import { changeFromAddress } from "./validation/ip_binding.ts";
import { durationToMs } from "../lib/duration.ts";

export function createRegenerationService(deps: ServiceDependencies) {
  const { regeneration, keyRing } = deps;

  async function regenerate(
    { sessionId, secrets }: PresentedSession,
    request: RegenerateSessionRequest,
    call: CallContext,
  ): Promise<{ stored: StoredSession; ipMismatch: boolean }> {
    if (request.userId !== "") {
      const login = await loginAnonymousSession(deps, { sessionId, secrets }, request, call);
      if (login !== undefined) return login;
    }
    const { userId, requestId, ipAddress } = request;
    const graceMs = durationToMs(request.grace) ?? 0;
    const what = { sessionId, userId, graceMs, requestId, ...(secrets && { secrets }) };
    return changeFromAddress(ipAddress, (address) => regeneration.regenerate(what, address, call));
  }

  return {
    async regenerateSession(request, call) {
      const { token, requestId } = request;
      const { tenant } = call.principal;
      let secret: Secret | undefined;
      let presented: PresentedSession = { sessionId: request.sessionId, secrets: undefined };
      if (token !== "") {
        const ring = keyRing();
        const verified = verifyToken(ring, tenant, token);
        if (verified === undefined) throw sessionNotFound();
        secret = requestId === "" ? newSecret() : deriveSecret(ring, tenant, token, "regenerate", requestId);
        const secrets = { presented: verified.digest, next: secret.digest };
        presented = { sessionId: verified.sessionId, secrets };
      }
      const { stored, ipMismatch } = await regenerate(presented, request, call);
      const newToken = secret ? mintToken(keyRing(), tenant, stored.record.sessionId, secret) : "";
      return { session: sessionMessage(stored), ipMismatch, token: newToken };
    },
  } satisfies SessionServiceImpl;
}
