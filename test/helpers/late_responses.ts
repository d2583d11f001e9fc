// Client parts that deliver the responses of lookups late, so that later invalidations overtake them.

import { setTimeout as sleep } from "node:timers/promises";
import type { ClientParts } from "../../src/client/client.ts";

export function withLateResponses(parts: ClientParts, delayMs: () => number): ClientParts {
  return {
    ...parts,
    openConnection(address, credentials) {
      const connection = parts.openConnection(address, credentials);
      return {
        ...connection,
        async unary(method, request, timeoutMs) {
          const response = await connection.unary(method, request, timeoutMs);
          if (method.name === "BatchValidate") await sleep(delayMs());
          return response;
        },
      };
    },
  };
}
