// Regeneration: RegenerateSession.

import { mintToken, newSecret, verifyToken } from "../domain/token.ts";
import { sessionNotFound } from "../store/script_outcomes.ts";
import type { ServiceDependencies } from "./dependencies.ts";
import type { SessionServiceImpl } from "./handlers.ts";
import { durationToMs } from "./new_session.ts";
import { sessionMessage } from "./session_message.ts";

export function createRegenerationService({ regeneration, keyRing }: ServiceDependencies) {
  return {
    async regenerateSession(request, call) {
      const graceMs = durationToMs(request.grace) ?? 0;
      if (request.token === "") {
        return { session: sessionMessage(await regeneration.regenerate(request.sessionId, graceMs, call)) };
      }
      const { tenant } = call.principal;
      const verified = verifyToken(keyRing(), tenant, request.token);
      if (verified === undefined) throw sessionNotFound();
      const secret = newSecret();
      const secrets = { presented: verified.digest, next: secret.digest };
      const stored = await regeneration.regenerate(verified.sessionId, graceMs, call, secrets);
      const token = mintToken(keyRing(), tenant, stored.record.sessionId, secret);
      return { session: sessionMessage(stored), token };
    },
  } satisfies SessionServiceImpl;
}
