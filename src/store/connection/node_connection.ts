// A node connection: one supervised connection to one store process, made again whenever it is lost.
//
// Each attempt is a fresh client that never reconnects by itself. So the loop here alone decides when to connect, to which
// address, and what a connection must do before it counts as ready.

import { setTimeout as sleep } from "node:timers/promises";
import { ErrorReply } from "redis";
import type { Logger } from "pino";
import { storeOverloaded, storeUnavailable } from "./errors.ts";
import type { Fence } from "./fence.ts";
import { describeFault, faultOfReply, type StoreFault } from "./faults.ts";
import { NodeHealth, type NodeFault } from "./node_health.ts";
import { SILENCE_MS, startPinging } from "./ping.ts";
import {
  CONNECT_TIMEOUT_MS,
  isPrimary,
  MAX_PENDING,
  openClient,
  type StoreArguments,
  type StoreClient,
  type StoreReply,
} from "./store_client.ts";
import { hostPortText, type NodeAddress, type StoreAccess } from "./store_url.ts";

export type NodeConnectionOptions = {
  /** Called before every attempt for the address to connect to. */
  readonly locate: (signal: AbortSignal) => NodeAddress | Promise<NodeAddress>;
  readonly access: StoreAccess;
  readonly log: Logger;
  /** Called with each change of isReady(). */
  readonly onReadyChange: (ready: boolean) => void;
  /** Sets up a new connection before it becomes ready; a rejection ends the connection. */
  readonly prepare?: ((client: StoreClient) => Promise<void>) | undefined;
  /** The node must be a primary, and proves it by this. Without a fence, any node will do. */
  readonly fence?: Fence;
  readonly maxPending?: number | undefined;
};

const RECONNECT_MIN_MS = 20;
const RECONNECT_MAX_MS = 250;

class NotPrimaryError extends Error {}

export class NodeConnection {
  readonly #options: NodeConnectionOptions;
  readonly #maxPending: number;
  readonly #closing = new AbortController();
  readonly #ended: Promise<void>;
  #client: StoreClient | undefined;
  #address: NodeAddress | undefined;
  readonly #health: NodeHealth;
  /** True while commands can be sent. */
  #connected = false;
  #pending = 0;

  constructor(options: NodeConnectionOptions) {
    this.#options = options;
    this.#maxPending = options.maxPending ?? MAX_PENDING;
    this.#health = new NodeHealth({
      ...{ log: options.log, onChange: options.onReadyChange, proofMs: options.fence?.timeoutMs ?? Infinity },
      nodeName: () => this.#storeName(),
    });
    this.#ended = this.#run();
  }

  /**
   * Returns the store's raw reply, or rejects with the client's raw error. Rejects at once with STORE_UNAVAILABLE if it is
   * not connected or has not proven itself for too long, and with STORE_OVERLOADED if too many commands wait.
   */
  send(args: StoreArguments): Promise<StoreReply> {
    if (!this.#connected || !this.#health.isProven()) return Promise.reject(storeUnavailable());
    if (this.#pending >= this.#maxPending) return Promise.reject(storeOverloaded());
    return this.#count(this.#client!.sendCommand<StoreReply>(args));
  }

  /** Sends ASKING, then the command, with no other command in between. */
  sendAsking(args: StoreArguments): Promise<StoreReply> {
    // If the command is refused, ASKING must not come before another one.
    if (this.#connected && this.#pending < this.#maxPending)
      this.#client!.sendCommand(["ASKING"]).catch(() => undefined);
    return this.send(args);
  }

  isReady(): boolean {
    return this.#health.fault === undefined;
  }

  /** Returns what is wrong with the node; undefined if it is ready. */
  fault(): NodeFault | undefined {
    const { fault, failure } = this.#health;
    return fault && { fault, node: this.#storeName(), failure };
  }

  /** Returns the address of the node if it is connected. */
  nodeAddress(): NodeAddress | undefined {
    return this.#connected ? this.#address : undefined;
  }

  /** Closes the current connection, which is of no use, so that another one is made; `why` is logged. */
  drop(why: string, fault?: StoreFault): void {
    if (this.#client === undefined || !this.#connected) return;
    this.#options.log.warn({ store: this.#storeName(), why }, "dropping a connection to the store; making another");
    this.#disconnected();
    if (fault !== undefined) this.#health.failed(fault);
    this.#client.destroy();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#disconnected();
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
        const fault = error instanceof NotPrimaryError ? "replica" : (faultOfReply(error) ?? "unreachable");
        this.#health.failed(fault, error);
        // An absent store is tried several times a second, so only some of the failures are warnings.
        const level = ++failures === 1 || failures % 100 === 0 ? "warn" : "debug";
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
    const { locate, access, log, prepare, fence } = this.#options;
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
      const checked = client
        .sendCommand(["PING"])
        .then(() => fence === undefined || isPrimary(client))
        .then((isFit) => isFit || Promise.reject(new NotPrimaryError(describeFault("replica").text)));
      await Promise.race([checked, failed]);
      readyTimer.refresh();
      await Promise.race([prepare?.(client), failed]);
      readyTimer.refresh();
      this.#connected = true;
      log.info({ store: this.#storeName() }, "connected to the store");
      this.#health.connected();
      if (fence !== undefined) await this.#sendFence(client, fence);
      clearTimeout(readyTimer);
      const stopPinging = startPinging(
        () => (fence === undefined ? client.sendCommand(["PING"]) : this.#sendFence(client, fence)),
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
      this.#disconnected();
    }
  }

  /**
   * Resolves once the node has accepted a fence that was sent after every command before this call. @throws SessionError
   * STORE_UNAVAILABLE if it has refused it, and the client's error if the connection was lost.
   */
  async prove(): Promise<void> {
    const { fence } = this.#options;
    const isAccepted = this.#connected && fence !== undefined && (await this.#sendFence(this.#client!, fence));
    if (!isAccepted) throw storeUnavailable();
  }

  /** Sends the fence. Resolves to whether the node has accepted it, and rejects if the connection is lost. */
  async #sendFence(client: StoreClient, fence: Fence): Promise<boolean> {
    const command = fence.command() ?? ["PING"];
    const sentMs = performance.now();
    try {
      await client.sendCommand(command);
    } catch (error) {
      if (!(error instanceof ErrorReply)) throw error;
      if (fence.skipsKey(error)) return this.#sendFence(client, fence);
      this.#refused(error);
      fence.onRefused?.(error);
      return false;
    }
    if (!this.#connected || client !== this.#client) return false;
    this.#health.proven(sentMs);
    return true;
  }

  /** Draws the conclusion from an error reply, to a fence or to any other command. */
  #refused(error: unknown): void {
    const fault = faultOfReply(error);
    if (fault === undefined || !this.#connected) return;
    const { text, endsConnection } = describeFault(fault);
    if (endsConnection) this.drop(`it ${text}`, fault);
    else this.#health.failed(fault, error);
  }

  #disconnected(): void {
    this.#connected = false;
    this.#health.disconnected();
  }

  /** Forgets that a right is missing, once the commands have been tried. */
  rightsRestored(): void {
    this.#health.rightsRestored();
  }

  readonly #settled = (): void => void this.#pending--;

  readonly #failed = (error: unknown): void => {
    this.#pending--;
    if (this.#options.fence !== undefined && error instanceof ErrorReply) this.#refused(error);
  };

  #count(reply: Promise<StoreReply>): Promise<StoreReply> {
    this.#pending++;
    reply.then(this.#settled, this.#failed);
    return reply;
  }

  #storeName(): string | undefined {
    return this.#address && hostPortText(this.#address);
  }
}
