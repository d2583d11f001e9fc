// A node connection: one supervised connection to one store process, made again whenever it is lost.
//
// Each attempt is a fresh client that never reconnects by itself. So the loop here alone decides when to connect, to which
// address, and what a connection must do before it counts as ready.

import { setTimeout as sleep } from "node:timers/promises";
import { createClient, RESP_TYPES } from "redis";
import type { Logger } from "pino";
import { storeOverloaded, storeUnavailable } from "./errors.ts";
import { SILENCE_MS, startPinging } from "./ping.ts";
import { hostPortText, type NodeAddress, type StoreAccess } from "./store_url.ts";

/** A reply of the store: bulk strings are Buffers, a simple status is a string, arrays nest. */
export type StoreReply = Buffer | number | string | null | StoreReply[];
export type StoreArguments = readonly (string | Buffer)[];

/** What each topology of the store implements: single node, Sentinel, Cluster. */
export type StoreRouter = Pick<NodeConnection, "isReady" | "nodeAddress" | "close"> & {
  /** Sends a command to the node of `key`; the errors are those of NodeConnection. */
  send(args: StoreArguments, key: string): Promise<StoreReply>;
};

export type RouterOptions = Pick<NodeConnectionOptions, "log" | "maxPending" | "onReadyChange">;

export type NodeConnectionOptions = {
  /** Called before every attempt for the address to connect to. */
  readonly locate: (signal: AbortSignal) => NodeAddress | Promise<NodeAddress>;
  readonly access: StoreAccess;
  readonly log: Logger;
  /** Called with each change of isReady(). */
  readonly onReadyChange: (ready: boolean) => void;
  /** Checks or sets up a new connection before it becomes ready; a rejection ends the connection. */
  readonly prepare?: (client: StoreClient) => Promise<void>;
  readonly maxPending?: number | undefined;
};

/** The commands that may wait for their replies, so that a hung store does not use up the memory of the process. */
const MAX_PENDING = 10_000;
const CONNECT_TIMEOUT_MS = 1_500;
const RECONNECT_MIN_MS = 20;
const RECONNECT_MAX_MS = 250;

export type StoreClient = ReturnType<typeof openClient>;

/** Makes a client of node-redis with the options of every connection to the store; it never reconnects. */
export function openClient(address: NodeAddress, access: StoreAccess, maxPending: number = MAX_PENDING) {
  const shared = { connectTimeout: CONNECT_TIMEOUT_MS, socketTimeout: SILENCE_MS, reconnectStrategy: false as const };
  const tls = access.tls ? { tls: true as const } : undefined;
  return createClient({
    RESP: 2,
    socket:
      address.host === undefined
        ? { path: address.path, ...shared }
        : { host: address.host, port: address.port, ...tls, ...shared },
    username: access.username,
    password: access.password,
    database: access.database,
    disableOfflineQueue: true,
    disableClientInfo: true,
    maintNotifications: "disabled",
    // More than our own bound, so that pings can be sent when that is reached.
    commandsQueueMaxLength: maxPending + 16,
    commandOptions: { timeout: 0, typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } },
  });
}

/** Runs `use` on a connection of its own. Rejects what is pending after `timeoutMs`. */
export async function withClient<Result>(
  address: NodeAddress,
  access: StoreAccess,
  timeoutMs: number,
  use: (client: StoreClient) => Promise<Result>,
): Promise<Result> {
  const client = openClient(address, access);
  client.on("error", () => undefined);
  const timer = setTimeout(() => client.destroy(), timeoutMs);
  try {
    await client.connect();
    return await use(client);
  } finally {
    clearTimeout(timer);
    client.destroy();
  }
}

export class NodeConnection {
  readonly #options: NodeConnectionOptions;
  readonly #maxPending: number;
  readonly #closing = new AbortController();
  readonly #ended: Promise<void>;
  #client: StoreClient | undefined;
  #address: NodeAddress | undefined;
  #ready = false;
  #pending = 0;

  constructor(options: NodeConnectionOptions) {
    this.#options = options;
    this.#maxPending = options.maxPending ?? MAX_PENDING;
    this.#ended = this.#run();
  }

  /**
   * Returns the store's raw reply, or rejects with the client's raw error. Rejects at once with STORE_UNAVAILABLE if it is
   * not ready, and with STORE_OVERLOADED if too many commands wait.
   */
  send(args: StoreArguments): Promise<StoreReply> {
    if (!this.#ready) return Promise.reject(storeUnavailable());
    if (this.#pending >= this.#maxPending) return Promise.reject(storeOverloaded());
    return this.#count(this.#client!.sendCommand<StoreReply>(args));
  }

  /** Sends ASKING, then the command, with no other command in between. */
  sendAsking(args: StoreArguments): Promise<StoreReply> {
    // If the command is refused, ASKING must not come before another one.
    if (this.#ready && this.#pending < this.#maxPending) this.#client!.sendCommand(["ASKING"]).catch(() => undefined);
    return this.send(args);
  }

  isReady(): boolean {
    return this.#ready;
  }

  /** Returns the address of the node if it is connected. */
  nodeAddress(): NodeAddress | undefined {
    return this.#ready ? this.#address : undefined;
  }

  /** Closes the current connection, which is of no use, so that another one is made; `why` is logged. */
  drop(why: string): void {
    if (this.#client === undefined || !this.#ready) return;
    this.#options.log.warn({ store: this.#storeName(), why }, "dropping a connection to the store; making another");
    this.#setReady(false);
    this.#client.destroy();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#setReady(false);
    this.#client?.destroy();
    await this.#ended;
  }

  /** Connects again and again until close(). */
  async #run(): Promise<void> {
    const { signal } = this.#closing;
    let failures = 0;
    while (!signal.aborted) {
      const startedMs = performance.now();
      try {
        await this.#serveOneConnection();
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        failures++;
        // An absent store is tried several times a second, so only some of the failures are warnings.
        const level = failures === 1 || failures % 100 === 0 ? "warn" : "debug";
        const fields = { err: error, store: this.#storeName(), failures };
        this.#options.log[level](fields, "cannot connect to the store; trying again");
      }
      const delayMs = Math.min(RECONNECT_MAX_MS, RECONNECT_MIN_MS * 2 ** Math.min(failures, 10));
      // Half the time that the attempt took counts as delay, so that slow failures are not spaced out further.
      const pauseMs = delayMs * (0.5 + Math.random() / 2) - (performance.now() - startedMs) / 2;
      await sleep(Math.max(1, pauseMs), undefined, { signal }).catch(() => undefined);
    }
  }

  /** Connects, serves until the connection ends, and cleans up. Throws if the connection never became ready. */
  async #serveOneConnection(): Promise<void> {
    const { locate, access, log, prepare } = this.#options;
    const address = await locate(this.#closing.signal);
    this.#address = address;
    if (this.#closing.signal.aborted) return;
    const client = openClient(address, access, this.#maxPending);
    // Without a listener, an error event would end the process; connect() and every command reject with the error as well.
    let lastError: unknown;
    client.on("error", (error) => (lastError = error));
    const ended = new Promise<void>((resolve) => client.once("terminated", resolve).once("end", resolve));
    this.#client = client;
    const readyTimer = setTimeout(() => client.destroy(), CONNECT_TIMEOUT_MS + SILENCE_MS);
    try {
      await client.connect();
      const failed = ended.then(() => Promise.reject(lastError ?? new Error("connection ended")));
      // The kernel accepts connections for a hung process; only a reply shows that the process runs.
      const prepared = client.sendCommand(["PING"]).then(() => prepare?.(client));
      await Promise.race([prepared, failed]);
      clearTimeout(readyTimer);
      this.#setReady(true);
      log.info({ store: this.#storeName() }, "connected to the store");
      const stopPinging = startPinging(
        () => client.sendCommand(["PING"]),
        () => this.drop(`no reply to a ping for ${SILENCE_MS} ms`),
      );
      await ended;
      stopPinging();
      if (!this.#closing.signal.aborted) {
        log.warn({ err: lastError, store: this.#storeName() }, "lost the connection to the store; connecting again");
      }
    } finally {
      clearTimeout(readyTimer);
      this.#client = undefined;
      client.destroy();
      this.#setReady(false);
    }
  }

  #setReady(ready: boolean): void {
    if (this.#ready === ready) return;
    this.#ready = ready;
    this.#options.onReadyChange(ready);
  }

  readonly #settled = (): void => void this.#pending--;

  #count(reply: Promise<StoreReply>): Promise<StoreReply> {
    this.#pending++;
    reply.then(this.#settled, this.#settled);
    return reply;
  }

  #storeName(): string | undefined {
    return this.#address && hostPortText(this.#address);
  }
}
