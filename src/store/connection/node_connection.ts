// A link: one supervised connection to one store process, made anew for as long as it takes.
//
// Each connection is a fresh client that never reconnects by itself, so that this loop alone decides when, and to which
// address, and what a connection must prove before it counts as ready.

import { createClient, RESP_TYPES } from "redis";
import type { Logger } from "pino";
import { storeOverloaded, storeUnavailable } from "./errors.ts";
import { hostPortText, type NodeAddress } from "./store_url.ts";

/** What the store answers: bulk strings are always Buffers, a simple status is a string, arrays nest. */
export type StoreReply = Buffer | number | string | null | StoreReply[];
export type StoreArguments = readonly (string | Buffer)[];

/** How to reach and enter any process of the store. */
export type NodeAccess = {
  readonly tls: boolean;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly database: number;
};

export type NodeConnection = {
  /** The raw reply of the store or the client's raw error; rejects at once when the link is not ready or is full. */
  send(args: StoreArguments): Promise<StoreReply>;
  /** The same, for commands that only mean something right after one another. */
  sendTogether(commands: readonly StoreArguments[]): Promise<StoreReply>;
  isReady(): boolean;
  /** The address of the current connection, or of the last one. */
  address(): NodeAddress | undefined;
  /** Gives up the current connection, for one that has proved useless; the loop makes another. */
  drop(why: string): void;
  close(): Promise<void>;
};

export type NodeConnectionOptions = {
  /** Asked before every connection. */
  readonly locate: (signal: AbortSignal) => NodeAddress | Promise<NodeAddress>;
  readonly access: NodeAccess;
  readonly log: Logger;
  readonly onReadyChange: (ready: boolean) => void;
  /** What else a new connection must prove, or set up, before it is ready. */
  readonly prepare?: (client: StoreClient) => Promise<void>;
  readonly maxPending?: number;
};

/** Commands that may wait for their replies; a hung store must not cost the memory of the process. */
const MAX_PENDING = 10_000;
const CONNECT_TIMEOUT_MS = 1_500;
/** How long a connection may take to prove itself, and how long a ping may stay unanswered. */
const SILENCE_MS = 1_500;
const PING_INTERVAL_MS = 500;
const RECONNECT_MIN_MS = 20;
const RECONNECT_MAX_MS = 250;

export type StoreClient = ReturnType<typeof openClient>;

/** A client of node-redis as every connection to the store uses it; it never reconnects. */
export function openClient(address: NodeAddress, access: NodeAccess, maxPending: number = MAX_PENDING) {
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
    // Above our own bound, so that the watchdog's pings pass when the link is full.
    commandsQueueMaxLength: maxPending + 16,
    commandOptions: { timeout: 0, typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } },
  });
}

export function createNodeConnection(options: NodeConnectionOptions): NodeConnection {
  const { locate, access, log, onReadyChange, prepare, maxPending = MAX_PENDING } = options;
  const closing = new AbortController();
  let client: StoreClient | undefined;
  let address: NodeAddress | undefined;
  let ready = false;
  let pending = 0;
  let failures = 0;
  let wake: (() => void) | undefined;
  const done = run();

  async function run(): Promise<void> {
    while (!closing.signal.aborted) {
      const startedMs = performance.now();
      try {
        await connectOnce();
        failures = 0;
      } catch (error) {
        if (closing.signal.aborted) return;
        failures++;
        // Once loudly, then now and then: an absent store is tried several times a second.
        const level = failures === 1 || failures % 100 === 0 ? "warn" : "debug";
        log[level]({ err: error, store: address && hostPortText(address), failures }, "no connection to the store");
      }
      const delayMs = Math.min(RECONNECT_MAX_MS, RECONNECT_MIN_MS * 2 ** Math.min(failures, 10));
      // The time an attempt took counts, so that slow failures are not spaced out further.
      await pause(delayMs * (0.5 + Math.random() / 2) - (performance.now() - startedMs) / 2);
    }
  }

  /** Connects, serves until the connection ends, and cleans up; throws when it never became ready. */
  async function connectOnce(): Promise<void> {
    address = await locate(closing.signal);
    if (closing.signal.aborted) return;
    const current = openClient(address, access, maxPending);
    // An error event without a listener would end the process; connect() and every command tell the error as well.
    let lastError: unknown;
    current.on("error", (error) => (lastError = error));
    const ended = new Promise<void>((resolve) => {
      current.once("terminated", () => resolve());
      current.once("end", () => resolve());
    });
    client = current;
    const proof = setTimeout(() => current.destroy(), CONNECT_TIMEOUT_MS + SILENCE_MS);
    try {
      await current.connect();
      await Promise.race([
        prove(current),
        ended.then(() => Promise.reject(lastError ?? new Error("connection ended"))),
      ]);
      clearTimeout(proof);
      setReady(true);
      log.info({ store: hostPortText(address) }, "connected to the store");
      const stopWatchdog = startWatchdog(current);
      await ended;
      stopWatchdog();
      if (!closing.signal.aborted) log.warn({ err: lastError, store: hostPortText(address) }, "lost the store");
    } finally {
      clearTimeout(proof);
      client = undefined;
      current.destroy();
      setReady(false);
    }
  }

  async function prove(current: StoreClient): Promise<void> {
    // A hung process still accepts connections; only an answer proves that there is somebody.
    await current.sendCommand(["PING"]);
    await prepare?.(current);
  }

  /**
   * Ends a connection whose store has hung. The socket's own timeout cannot: every write refreshes it, so under traffic
   * it never passes.
   */
  function startWatchdog(current: StoreClient): () => void {
    let sentMs: number | undefined;
    let tickMs = performance.now();
    const timer = setInterval(() => {
      const nowMs = performance.now();
      const stalled = nowMs - tickMs > 2 * PING_INTERVAL_MS;
      tickMs = nowMs;
      if (sentMs === undefined) {
        sentMs = nowMs;
        current.sendCommand(["PING"]).then(
          () => (sentMs = undefined),
          () => undefined,
        );
      } else if (stalled) {
        // This process was the one that stood still; the answer may be waiting to be read.
        sentMs = nowMs;
      } else if (nowMs - sentMs >= SILENCE_MS - PING_INTERVAL_MS / 10) {
        drop(`no answer to a ping for ${SILENCE_MS} ms`);
      }
    }, PING_INTERVAL_MS);
    timer.unref();
    return () => clearInterval(timer);
  }

  function drop(why: string): void {
    if (client === undefined || !ready) return;
    log.warn({ store: address && hostPortText(address), why }, "giving up a connection to the store");
    setReady(false);
    client.destroy();
  }

  function setReady(value: boolean): void {
    if (ready === value) return;
    ready = value;
    onReadyChange(value);
  }

  function pause(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(end, Math.max(1, milliseconds));
      function end(): void {
        clearTimeout(timer);
        wake = undefined;
        resolve();
      }
      wake = end;
    });
  }

  function settled(): void {
    pending--;
  }

  function counted(reply: Promise<StoreReply>): Promise<StoreReply> {
    pending++;
    reply.then(settled, settled);
    return reply;
  }

  return {
    send(args) {
      if (!ready) return Promise.reject(storeUnavailable());
      if (pending >= maxPending) return Promise.reject(storeOverloaded());
      return counted(client!.sendCommand<StoreReply>(args));
    },
    sendTogether(commands) {
      if (!ready) return Promise.reject(storeUnavailable());
      if (pending >= maxPending) return Promise.reject(storeOverloaded());
      // Queued in one go, so nothing of ours comes in between; the last one's reply is the answer.
      const replies = commands.map((args) => client!.sendCommand<StoreReply>(args));
      return counted(Promise.all(replies).then((all) => all.at(-1)!));
    },
    isReady: () => ready,
    address: () => address,
    drop,
    async close() {
      closing.abort();
      setReady(false);
      client?.destroy();
      wake?.();
      await done;
    },
  };
}
