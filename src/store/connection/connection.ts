// The connection every store operation goes through: one pipelined link, or one per primary of a cluster.

import type { Logger } from "pino";
import type { CallDeadline } from "../../domain/call.ts";
import type { Deadlines } from "../../lib/deadlines.ts";
import { createDeadlines } from "../../lib/deadlines.ts";
import { SessionError } from "../../domain/errors.ts";
import { createCallLimiter } from "./call_deadline.ts";
import { createClusterRouter } from "./cluster.ts";
import { storeUnavailable } from "./errors.ts";
import { createNodeConnection, type StoreArguments, type StoreReply } from "./node_connection.ts";
import { createSentinelConnection } from "./sentinel.ts";
import { describeStoreUrl, type NodeAddress, type StoreUrl } from "./store_url.ts";

export type { StoreArguments, StoreReply } from "./node_connection.ts";
export { StoreReplyError } from "./errors.ts";

export type StoreConnection = {
  /**
   * Sends one command to the node that holds `key`; node-redis pipelines what is sent in the same tick.
   * Ends by the call's deadline whatever the store does.
   * @throws SessionError STORE_UNAVAILABLE (its effect is unknown), STORE_TIMEOUT (the same), STORE_OVERLOADED and
   * STORE_FULL (it had none), CANCELLED, DEADLINE_EXCEEDED; StoreReplyError for any other error reply.
   */
  send(key: string, args: StoreArguments, call: CallDeadline): Promise<StoreReply>;
  /** Whether commands can be sent: connected to the node, or to a primary for every slot of the cluster. */
  isReady(): boolean;
  /** Calls the listener with each change of isReady(); returns how to stop that. */
  onReadyChange(listener: (ready: boolean) => void): () => void;
  /** Resolves once ready. @throws SessionError STORE_UNAVAILABLE when that is not so by the deadline. */
  whenReady(call: CallDeadline): Promise<void>;
  /** Which store this is, for logs: never a credential. */
  readonly description: string;
  readonly url: StoreUrl;
  /** A node that answers now, for connections that any node can serve (pub/sub); undefined when there is none. */
  nodeAddress(): NodeAddress | undefined;
  close(): Promise<void>;
};

export type StoreConnectionOptions = {
  readonly url: StoreUrl;
  readonly log: Logger;
  readonly deadlines?: Deadlines;
  /** Commands that may wait for a reply on one node before further ones are refused. */
  readonly maxPending?: number;
};

/** What a topology provides; everything else is the same for all of them. */
export type StoreRouter = {
  send(key: string, args: StoreArguments): Promise<StoreReply>;
  isReady(): boolean;
  nodeAddress(): NodeAddress | undefined;
  close(): Promise<void>;
};

export type RouterOptions = {
  readonly log: Logger;
  readonly maxPending: number | undefined;
  readonly onReadyChange: (ready: boolean) => void;
};

export function createStoreConnection(options: StoreConnectionOptions): StoreConnection {
  const { url, log, deadlines = createDeadlines(), maxPending } = options;
  const listeners = new Set<(ready: boolean) => void>();
  const limiter = createCallLimiter(deadlines);
  const routes = createRoutes(url, { log, maxPending, onReadyChange });
  let closed = false;

  function onReadyChange(ready: boolean): void {
    for (const listener of listeners) listener(ready);
  }

  function listen(listener: (ready: boolean) => void): () => void {
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  return {
    send(key, args, call) {
      if (performance.now() >= call.deadlineMs) {
        return Promise.reject(new SessionError("DEADLINE_EXCEEDED", "the deadline of the call has passed"));
      }
      return limiter.limit(call, routes.send(key, args));
    },
    isReady: () => routes.isReady(),
    onReadyChange: listen,
    async whenReady(call) {
      if (routes.isReady()) return;
      if (closed) throw storeUnavailable();
      let stop: (() => void) | undefined;
      const ready = new Promise<void>((resolve, reject) => {
        stop = listen(() => {
          if (routes.isReady()) resolve();
          else if (closed) reject(storeUnavailable());
        });
      });
      try {
        await limiter.limit(call, ready);
      } catch (error) {
        throw error instanceof SessionError && error.reason === "STORE_TIMEOUT" ? storeUnavailable(error) : error;
      } finally {
        stop?.();
      }
    },
    description: describeStoreUrl(url),
    url,
    nodeAddress: () => routes.nodeAddress(),
    async close() {
      if (closed) return;
      closed = true;
      await routes.close();
      onReadyChange(false);
    },
  };
}

function createRoutes(url: StoreUrl, options: RouterOptions): StoreRouter {
  if (url.kind === "cluster") return createClusterRouter(url, options);
  const link =
    url.kind === "sentinel"
      ? createSentinelConnection(url, options)
      : createNodeConnection({ locate: () => url.address, access: url, ...options });
  return {
    send: (_key, args) => link.send(args),
    isReady: () => link.isReady(),
    nodeAddress: () => (link.isReady() ? link.address() : undefined),
    close: () => link.close(),
  };
}
