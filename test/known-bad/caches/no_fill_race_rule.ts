// A cache that is broken on purpose: a late response overwrites an invalidation that came before it.

import { SessionCache, type FillResult, type FillTicket } from "../../../src/client/cache.ts";
import { CLIENT_PARTS, type ClientParts } from "../../../src/client/client.ts";

class LateFillCache extends SessionCache {
  override endFill(key: string, ticket: FillTicket, result: FillResult | undefined): void {
    this.abandonFill(key, ticket);
    super.endFill(key, this.beginFill(), result);
  }
}

export const noFillRaceRule: ClientParts = {
  ...CLIENT_PARTS,
  createCache: (maxEntries) => new LateFillCache(maxEntries),
};
