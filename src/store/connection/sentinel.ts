// The master of a Sentinel set-up: its address is asked from the sentinels at every connection, and its role is checked.
//
// Not node-redis's own sentinel client, which may execute a write twice.

import { storeUnavailable, StoreReplyError } from "./errors.ts";
import { createNodeConnection, openClient, type NodeConnection, type StoreClient } from "./node_connection.ts";
import type { RouterOptions } from "./connection.ts";
import { hostPortText, type HostPort, type SentinelStoreUrl } from "./store_url.ts";

/** A sentinel that does not answer must not hold up the others for long. */
const ASK_TIMEOUT_MS = 500;

export function createSentinelConnection(url: SentinelStoreUrl, options: RouterOptions): NodeConnection {
  const { log } = options;
  // The one that answered last is asked first.
  let sentinels = [...url.sentinels];

  async function locate(signal: AbortSignal): Promise<HostPort> {
    for (const sentinel of sentinels) {
      if (signal.aborted) break;
      try {
        const address = await askSentinel(sentinel, url);
        if (address === undefined) {
          log.debug({ sentinel: hostPortText(sentinel), master: url.masterName }, "this sentinel knows no such master");
          continue;
        }
        sentinels = [sentinel, ...sentinels.filter((other) => other !== sentinel)];
        return address;
      } catch (error) {
        log.debug({ err: error, sentinel: hostPortText(sentinel) }, "this sentinel did not answer");
      }
    }
    throw storeUnavailable(new Error(`no sentinel told the address of ${url.masterName}`));
  }

  const link = createNodeConnection({ locate, access: url, ...options, prepare: requireMaster });
  return {
    ...link,
    // A master that was demoted under us refuses writes: the sentinels know the new one.
    send: (args) =>
      link.send(args).catch((error: unknown) => {
        if (error instanceof Error && error.message.startsWith("READONLY")) link.drop("it is no longer the master");
        throw error;
      }),
  };
}

async function requireMaster(client: StoreClient): Promise<void> {
  const role = await client.sendCommand<[Buffer | string]>(["ROLE"]);
  if (String(role[0]) !== "master") throw new StoreReplyError(`the sentinels named a ${String(role[0])} as the master`);
}

async function askSentinel(sentinel: HostPort, url: SentinelStoreUrl): Promise<HostPort | undefined> {
  try {
    return await ask(sentinel, { tls: url.tls, username: undefined, password: undefined, database: 0 }, url.masterName);
  } catch (error) {
    // Sentinels seldom have a password; one that wants it gets the master's.
    if (!(error instanceof Error && error.message.startsWith("NOAUTH"))) throw error;
    return ask(sentinel, { ...url, database: 0 }, url.masterName);
  }
}

async function ask(
  sentinel: HostPort,
  access: Parameters<typeof openClient>[1],
  masterName: string,
): Promise<HostPort | undefined> {
  const client = openClient(sentinel, access);
  client.on("error", () => undefined);
  // destroy() ends a connect() or a command that still waits.
  const timer = setTimeout(() => client.destroy(), ASK_TIMEOUT_MS);
  try {
    await client.connect();
    const reply = await client.sendCommand<[Buffer, Buffer] | null>([
      "SENTINEL",
      "get-master-addr-by-name",
      masterName,
    ]);
    return reply === null ? undefined : { host: reply[0].toString(), port: Number(reply[1].toString()) };
  } finally {
    clearTimeout(timer);
    client.destroy();
  }
}
