// Regeneration: RegenerateSession.

import { deriveSecret, mintToken, newSecret, verifyToken } from "../domain/token.ts";
import type { CallContext } from "../domain/call.ts";
import { sessionNotFound } from "../store/script_outcomes.ts";
import type { Regeneration } from "../store/regeneration.ts";
import type { ServiceDependencies } from "./dependencies.ts";
import type { SessionServiceImpl } from "./handlers.ts";
import { durationToMs } from "./new_session.ts";
import { sessionMessage } from "./session_message.ts";
import { changeFromAddress } from "./validation/ip_binding.ts";

export function createRegenerationService({ regeneration, keyRing }: ServiceDependencies) {
  async function regenerate(what: Regeneration, ipAddress: string, call: CallContext) {
    const change = changeFromAddress(ipAddress, (address) => regeneration.regenerate(what, address, call));
    const { stored, ipMismatch } = await change;
    return { session: sessionMessage(stored), ipMismatch };
  }

  return {
    async regenerateSession({ sessionId, token, grace, requestId, ipAddress }, call) {
      const graceMs = durationToMs(grace) ?? 0;
      if (token === "") return regenerate({ sessionId, graceMs, requestId }, ipAddress, call);
      const { tenant } = call.principal;
      const ring = keyRing();
      const verified = verifyToken(ring, tenant, token);
      if (verified === undefined) throw sessionNotFound();
      const secret = requestId === "" ? newSecret() : deriveSecret(ring, tenant, token, "regenerate", requestId);
      const secrets = { presented: verified.digest, next: secret.digest };
      const response = await regenerate(
        { sessionId: verified.sessionId, graceMs, requestId, secrets },
        ipAddress,
        call,
      );
      return { ...response, token: mintToken(keyRing(), tenant, response.session.sessionId, secret) };
    },
  } satisfies SessionServiceImpl;
}
