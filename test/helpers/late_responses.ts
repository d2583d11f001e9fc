// Client parts whose lookups are answered late, as on a busy link: after invalidations that came later.

import { setTimeout as sleep } from "node:timers/promises";
import type { ClientParts } from "../../src/client/client.ts";

export function withLateAnswers(parts: ClientParts, delayMs: () => number): ClientParts {
  return {
    ...parts,
    openConnection(address, credentials) {
      const connection = parts.openConnection(address, credentials);
      return {
        ...connection,
        async unary(method, request, timeoutMs) {
          const answer = await connection.unary(method, request, timeoutMs);
          if (method.name === "BatchValidate") await sleep(delayMs());
          return answer;
        },
      };
    },
  };
}
