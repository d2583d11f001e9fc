// A store with Sentinel: before every connection the sentinels are asked for the master's address, and its role is checked.
//
// This does not use node-redis's own sentinel client, which may execute a write twice.

import { storeUnavailable, StoreReplyError } from "./errors.ts";
import {
  NodeConnection,
  withClient,
  type RouterOptions,
  type StoreClient,
  type StoreRouter,
} from "./node_connection.ts";
import { hostPortText, type HostPort, type SentinelStoreUrl, type StoreAccess } from "./store_url.ts";

/** Short, so that a hung sentinel does not delay the request to the next one for long. */
const SENTINEL_TIMEOUT_MS = 500;

export function createSentinelRouter(url: SentinelStoreUrl, options: RouterOptions): StoreRouter {
  const { log } = options;
  // The sentinel that replied last comes first.
  let sentinels = [...url.sentinels];

  async function locateMaster(signal: AbortSignal): Promise<HostPort> {
    for (const sentinel of sentinels) {
      if (signal.aborted) break;
      try {
        const address = await requestMasterAddress(sentinel, url);
        if (address === undefined) {
          log.debug({ sentinel: hostPortText(sentinel), master: url.masterName }, "this sentinel knows no such master");
          continue;
        }
        sentinels = [sentinel, ...sentinels.filter((other) => other !== sentinel)];
        return address;
      } catch (error) {
        log.debug({ err: error, sentinel: hostPortText(sentinel) }, "no reply from this sentinel; trying the next one");
      }
    }
    throw storeUnavailable(new Error(`no sentinel returned the address of ${url.masterName}`));
  }

  const master = new NodeConnection({ locate: locateMaster, access: url, ...options, prepare: requireMaster });
  return {
    // A master that has been demoted refuses writes; the sentinels know its successor.
    send: (args) =>
      master.send(args).catch((error: unknown) => {
        if (error instanceof Error && error.message.startsWith("READONLY")) master.drop("it is no longer the master");
        throw error;
      }),
    isReady: () => master.isReady(),
    nodeAddress: () => master.nodeAddress(),
    close: () => master.close(),
  };
}

async function requireMaster(client: StoreClient): Promise<void> {
  const role = await client.sendCommand<[Buffer | string]>(["ROLE"]);
  if (String(role[0]) !== "master") throw new StoreReplyError(`the sentinels named a ${String(role[0])} as the master`);
}

async function requestMasterAddress(sentinel: HostPort, url: SentinelStoreUrl): Promise<HostPort | undefined> {
  const anonymous = { tls: url.tls, username: undefined, password: undefined, database: 0 };
  try {
    return await requestAddress(sentinel, anonymous, url.masterName);
  } catch (error) {
    // Sentinels rarely have a password. One that requires a password gets the master's.
    if (!(error instanceof Error && error.message.startsWith("NOAUTH"))) throw error;
    return requestAddress(sentinel, { ...url, database: 0 }, url.masterName);
  }
}

function requestAddress(sentinel: HostPort, access: StoreAccess, masterName: string): Promise<HostPort | undefined> {
  return withClient(sentinel, access, SENTINEL_TIMEOUT_MS, async (client) => {
    const command = ["SENTINEL", "get-master-addr-by-name", masterName];
    const reply = await client.sendCommand<[Buffer, Buffer] | null>(command);
    return reply === null ? undefined : { host: String(reply[0]), port: Number(String(reply[1])) };
  });
}
