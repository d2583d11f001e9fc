// A store with Sentinel: the sentinels name the master, and the connection follows them at once.
//
// This does not use node-redis's own sentinel client, which may execute a write twice.

import { setTimeout as sleep } from "node:timers/promises";
import { fenceOf } from "./fence.ts";
import { storeUnavailable } from "./errors.ts";
import { NodeConnection } from "./node_connection.ts";
import { recoverNode, type RouterOptions, type StoreRouter } from "./router.ts";
import { SentinelWatcher } from "./sentinel_watcher.ts";
import { hostPortText, type SentinelStoreUrl } from "./store_url.ts";

/** For the connections to the sentinels. */
const FIRST_NAME_TIMEOUT_MS = 1_500;

export function createSentinelRouter(url: SentinelStoreUrl, options: RouterOptions): StoreRouter {
  const sentinels = new SentinelWatcher(url, options.log, ({ address }) => {
    const connected = master.nodeAddress();
    if (connected?.host === undefined || hostPortText(connected) === hostPortText(address)) return;
    master.drop(`the sentinels name another master, ${hostPortText(address)}`);
  });
  const master = new NodeConnection({
    async locate(signal) {
      await sentinels.ask();
      await Promise.race([sentinels.whenNamed(), sleep(FIRST_NAME_TIMEOUT_MS, undefined, { signal, ref: false })]);
      if (sentinels.named === undefined) {
        throw storeUnavailable(
          new Error(`no sentinel named the master ${url.masterName}`, { cause: sentinels.failure }),
        );
      }
      return sentinels.named.address;
    },
    access: url,
    ...options,
    prepare: (client) => recoverNode(options, client, () => true),
    // A master that refuses writes may have a successor already.
    fence: { ...fenceOf(() => true, options.fenceTimeoutMs), onRefused: () => void sentinels.ask() },
  });
  return {
    send: (args) => master.send(args),
    isReady: () => master.isReady(),
    fault: () => master.fault(),
    prove: () => master.prove(),
    rightsRestored: () => master.rightsRestored(),
    nodeAddress: () => master.nodeAddress(),
    async close() {
      await Promise.all([master.close(), sentinels.close()]);
    },
  };
}
