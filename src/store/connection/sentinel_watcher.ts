// What the sentinels say about the master: each is asked every second and whenever one of them announces a step of a failover.
//
// During a failover, and after a partition, sentinels contradict each other. The configuration epoch decides, which the sentinel
// that leads a failover raises when it promotes the replica: the highest is right.

import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { startPinging } from "./ping.ts";
import { openClient, type StoreClient } from "./store_client.ts";
import { hostPortText, type HostPort, type SentinelStoreUrl } from "./store_url.ts";

export type NamedMaster = { readonly address: HostPort; readonly epoch: number };

/** Short, so that a hung sentinel does not delay what the others say for long. */
const REPLY_TIMEOUT_MS = 500;
const ASK_INTERVAL_MS = 1_000;
const RECONNECT_MS = 500;
/** The announcements of the sentinel that leads a failover, and of the others. */
const CHANNELS = ["+switch-master", "+promoted-slave", "+failover-state-reconf-slaves"];

export class SentinelWatcher {
  readonly #url: SentinelStoreUrl;
  readonly #log: Logger;
  readonly #onNamed: (master: NamedMaster) => void;
  readonly #closing = new AbortController();
  readonly #sentinels: { readonly address: HostPort; client: StoreClient | undefined }[];
  readonly #loops: Promise<void>[];
  readonly #firstNamed = Promise.withResolvers<void>();
  #asking: Promise<void> | undefined;
  /** The master of the highest epoch that any sentinel has named. */
  named: NamedMaster | undefined;
  /** The error for which the last connection to a sentinel failed. */
  failure: unknown;

  /** Calls `onNamed` when the sentinels name another master than before. */
  constructor(url: SentinelStoreUrl, log: Logger, onNamed: (master: NamedMaster) => void) {
    this.#url = url;
    this.#log = log;
    this.#onNamed = onNamed;
    this.#sentinels = url.sentinels.map((address) => ({ address, client: undefined }));
    this.#loops = [...this.#sentinels.map((sentinel) => this.#stayConnected(sentinel)), this.#askRegularly()];
  }

  /** Resolves when a sentinel has named a master for the first time. */
  whenNamed(): Promise<void> {
    return this.#firstNamed.promise;
  }

  /** Asks all sentinels; resolves when they have replied or had the time to. */
  ask(): Promise<void> {
    this.#asking ??= this.#askAll().finally(() => (this.#asking = undefined));
    return this.#asking;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    for (const { client } of this.#sentinels) client?.destroy();
    await Promise.all(this.#loops);
  }

  async #askRegularly(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      await this.ask();
      await sleep(ASK_INTERVAL_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  async #askAll(): Promise<void> {
    const connected = this.#sentinels.filter(({ client }) => client?.isReady === true);
    const replies = await Promise.all(connected.map(({ client, address }) => this.#askOne(client!, address)));
    const named = replies.filter((reply) => reply !== undefined);
    const highest = Math.max(...named.map(({ epoch }) => epoch));
    const candidates = named.filter(({ epoch }) => epoch === highest);
    const before = this.named;
    // Sentinels that were set up anew begin their epochs anew, all of them.
    const isOutdated = before !== undefined && highest < before.epoch && named.length < this.#sentinels.length;
    if (candidates.length === 0 || isOutdated) return;
    this.named = candidates.find(({ address }) => isSame(address, before?.address)) ?? candidates[0]!;
    this.#firstNamed.resolve();
    if (before === undefined || isSame(before.address, this.named.address)) return;
    const { address, epoch } = this.named;
    this.#log.warn({ store: hostPortText(address), epoch }, "the sentinels name another master");
    this.#onNamed(this.named);
  }

  async #askOne(client: StoreClient, sentinel: HostPort): Promise<NamedMaster | undefined> {
    const { masterName } = this.#url;
    const replies = Promise.all([
      client.sendCommand<[Buffer, Buffer] | null>(["SENTINEL", "get-master-addr-by-name", masterName]),
      client.sendCommand<(Buffer | string)[]>(["SENTINEL", "MASTER", masterName]),
    ]);
    const timeout = sleep(REPLY_TIMEOUT_MS, undefined, { ref: false });
    try {
      const replied = await Promise.race([replies, timeout]);
      if (replied === undefined) throw new Error(`no reply for ${REPLY_TIMEOUT_MS} ms`);
      const [address, fields] = replied;
      if (address === null) return undefined;
      const names = fields.map(String);
      const epoch = Number(names[names.indexOf("config-epoch") + 1]);
      return { address: { host: String(address[0]), port: Number(String(address[1])) }, epoch };
    } catch (error) {
      replies.catch(() => undefined);
      this.#log.debug({ err: error, sentinel: hostPortText(sentinel) }, "this sentinel did not name the master");
      return undefined;
    }
  }

  /** Keeps a connection to a sentinel and a subscription to its announcements. */
  async #stayConnected(sentinel: { readonly address: HostPort; client: StoreClient | undefined }): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      try {
        await this.#serve(sentinel);
      } catch (error) {
        this.failure = error;
        const fields = { err: error, sentinel: hostPortText(sentinel.address) };
        this.#log.debug(fields, "no connection to this sentinel; trying again");
      }
      await sleep(RECONNECT_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  async #serve(sentinel: { readonly address: HostPort; client: StoreClient | undefined }): Promise<void> {
    const client = await this.#connect(sentinel.address);
    const subscriber = await this.#connect(sentinel.address).catch((error: unknown) => {
      client.destroy();
      throw error;
    });
    const ended = [client, subscriber].map(
      (each) => new Promise<void>((resolve) => each.once("terminated", resolve).once("end", resolve)),
    );
    const stopPinging = startPinging(
      () => subscriber.sendCommand(["PING"]),
      () => subscriber.destroy(),
    );
    try {
      await subscriber.subscribe(CHANNELS, () => void this.ask());
      sentinel.client = client;
      await this.ask();
      await Promise.race(ended);
    } finally {
      stopPinging();
      sentinel.client = undefined;
      client.destroy();
      subscriber.destroy();
    }
  }

  /** Sentinels rarely have a password. One that requires a password gets the master's. */
  async #connect(address: HostPort): Promise<StoreClient> {
    const files = { ...this.#url.files, passwordFile: undefined };
    const anonymous = { ...this.#url, username: undefined, password: undefined, database: 0, files };
    const client = await this.#open(address, anonymous);
    try {
      await client.sendCommand(["PING"]);
      return client;
    } catch (error) {
      client.destroy();
      if (!(error instanceof Error && error.message.startsWith("NOAUTH"))) throw error;
      return this.#open(address, { ...this.#url, database: 0 });
    }
  }

  async #open(address: HostPort, access: Parameters<typeof openClient>[1]): Promise<StoreClient> {
    const client = openClient(address, access);
    client.on("error", () => undefined);
    const destroy = () => client.destroy();
    this.#closing.signal.addEventListener("abort", destroy, { once: true });
    client.once("terminated", () => this.#closing.signal.removeEventListener("abort", destroy));
    await client.connect();
    return client;
  }
}

function isSame(address: HostPort, other: HostPort | undefined): boolean {
  return other !== undefined && hostPortText(address) === hostPortText(other);
}
