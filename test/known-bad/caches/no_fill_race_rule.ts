// A cache that is broken on purpose: a late response overwrites an invalidation that came before it.

import { SessionCache, type FillResult, type FillTicket } from "../../../src/client/cache.ts";
import { CLIENT_PARTS, type ClientParts } from "../../../src/client/client.ts";

class LateFillCache extends SessionCache {
  override endFill(handle: string, address: string, ticket: FillTicket, result: FillResult): boolean {
    this.abandonFill(handle, address, ticket);
    return super.endFill(handle, address, this.beginFill(), result);
  }
}

export const noFillRaceRule: ClientParts = {
  ...CLIENT_PARTS,
  createCache: (maxEntries) => new LateFillCache(maxEntries),
};
