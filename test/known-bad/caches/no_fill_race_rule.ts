// A cache that is broken on purpose: an answer that comes late overwrites an invalidation that came before it.

import { createCache } from "../../../src/client/cache.ts";
import { CLIENT_PARTS, type ClientParts } from "../../../src/client/client.ts";

export const noFillRaceRule: ClientParts = {
  ...CLIENT_PARTS,
  createCache(maxEntries) {
    const cache = createCache(maxEntries);
    return {
      ...cache,
      get safeForMs() {
        return cache.safeForMs;
      },
      get size() {
        return cache.size;
      },
      endFill(key, ticket, answer) {
        cache.abandonFill(key, ticket);
        cache.endFill(key, cache.beginFill(), answer);
      },
    };
  },
};
