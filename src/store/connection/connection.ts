// The connection of all store operations: deadlines, errors and readiness, the same for every topology.

import type { Logger } from "pino";
import type { CallDeadline } from "../../domain/call.ts";
import { deadlineExceeded, SessionError } from "../../domain/errors.ts";
import { withTimeout } from "./call_deadline.ts";
import { ClusterRouter } from "./cluster.ts";
import { storeUnavailable } from "./errors.ts";
import { describeFault, type StoreFault } from "./faults.ts";
import { fenceOf } from "./fence.ts";
import { NodeConnection } from "./node_connection.ts";
import type { NodeFault } from "./node_health.ts";
import { recoverNode, type RouterOptions, type StoreRouter } from "./router.ts";
import type { StoreArguments, StoreClient, StoreReply } from "./store_client.ts";
import { createSentinelRouter } from "./sentinel.ts";
import { describeStoreUrl, type StoreUrl } from "./store_url.ts";

export type { StoreArguments, StoreReply } from "./store_client.ts";
export { StoreReplyError } from "./errors.ts";

export type StoreConnection = ReturnType<typeof createStoreConnection>;

export type StoreConnectionOptions = {
  readonly url: StoreUrl;
  readonly log: Logger;
  /** The commands that may wait for a reply on one node; further ones are refused as STORE_OVERLOADED. */
  readonly maxPending?: number;
  /** A node that has accepted no write for so long is not believed any more. Default: 3 s, the lease of a cache. */
  readonly fenceTimeoutMs?: number;
  /** Brings each primary up to date before it is ready. */
  readonly recover?: RouterOptions["recover"];
};

const DEFAULT_FENCE_TIMEOUT_MS = 3_000;

export function createStoreConnection(options: StoreConnectionOptions) {
  const { url, log, maxPending, fenceTimeoutMs = DEFAULT_FENCE_TIMEOUT_MS, recover } = options;
  const listeners = new Set<(ready: boolean) => void>();
  let closed = false;
  const router = createRouter(url, { log, maxPending, fenceTimeoutMs, recover, onReadyChange: notify });

  function notify(ready: boolean): void {
    for (const listener of listeners) listener(ready);
  }

  /** Returns the fault of a store that is not ready; undefined if it is. */
  const fault = () => router.fault()?.fault;

  /**
   * Sends one command to the node of `key`; commands of one tick are pipelined. Ends by the call's deadline whatever the
   * store does.
   * @throws SessionError STORE_UNAVAILABLE and STORE_TIMEOUT (the command may have had an effect), STORE_OVERLOADED and
   * STORE_FULL (it had none), CANCELLED, DEADLINE_EXCEEDED; StoreReplyError for any other error reply.
   */
  function send(key: string, args: StoreArguments, call: CallDeadline): Promise<StoreReply> {
    if (performance.now() >= call.deadlineMs) return Promise.reject(deadlineExceeded());
    return withTimeout(call, router.send(args, key));
  }

  /**
   * Resolves once every primary has accepted a write that was sent after all commands before this call, so that their replies
   * were those of primaries. @throws what send throws.
   */
  function prove(call: CallDeadline): Promise<void> {
    return withTimeout(call, router.prove());
  }

  /** Calls the listener with each change of isReady() and of the cause; returns a function that removes it. */
  function onReadyChange(listener: (ready: boolean) => void): () => void {
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  /**
   * Resolves once ready.
   * @throws SessionError STORE_UNAVAILABLE if that is not so by the deadline, or after close(). Its message is for an operator.
   */
  async function whenReady(call: CallDeadline): Promise<void> {
    if (router.isReady()) return;
    if (closed) throw storeUnavailable();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const removeListener = onReadyChange(() => {
      if (router.isReady()) resolve();
      else if (closed) reject(storeUnavailable());
    });
    try {
      await withTimeout(call, promise);
    } catch (error) {
      if (!(error instanceof SessionError && error.reason === "STORE_TIMEOUT")) throw error;
      const unready = router.fault();
      throw storeUnavailable(unready?.failure ?? error, notReadyText(unready));
    } finally {
      removeListener();
    }
  }

  /** Fails the commands that are in flight; resolves when all connections are closed. */
  async function close(): Promise<void> {
    if (closed) return;
    closed = true;
    await router.close();
    notify(false);
  }

  return {
    url,
    /** The store's URL without credentials, for logs. */
    description: describeStoreUrl(url),
    send,
    prove,
    /** Returns true if commands can be sent: to the node, or to a primary for every slot of the cluster. */
    isReady: () => router.isReady(),
    fault,
    /** Returns why the store is not ready, in words and without the address of the node; undefined if it is. */
    unreadyCause: () => causeOf(fault()),
    /** Reports that every command has been tried, after a fault NOPERM. */
    rightsRestored: () => router.rightsRestored(),
    onReadyChange,
    whenReady,
    /** Returns the node of a key or, without one, any connected node; undefined if it is not connected. */
    nodeAddress: (key?: string) => router.nodeAddress(key),
    close,
  };
}

function causeOf(fault: StoreFault | undefined): string | undefined {
  return fault && `the store ${describeFault(fault).text}`;
}

/** Returns why the store is not ready, with the error for which it was not connected or refused the fence. */
function notReadyText({ fault, failure }: Partial<NodeFault> = {}): string | undefined {
  const isExplained = failure === undefined || (fault !== "unreachable" && fault !== "NOPERM");
  return isExplained ? causeOf(fault) : `${causeOf(fault)}: ${reasonOf(failure)}`;
}

/** Returns the text of the error that explains the others. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  if (!(error instanceof Error)) return String(error);
  if (error instanceof SessionError && error.cause !== undefined) return reasonOf(error.cause);
  return error.cause === undefined ? error.message : `${error.message}: ${reasonOf(error.cause)}`;
}

function createRouter(url: StoreUrl, options: RouterOptions): StoreRouter {
  switch (url.kind) {
    case "cluster":
      return new ClusterRouter(url, options);
    case "sentinel":
      return createSentinelRouter(url, options);
    case "single": {
      const fence = fenceOf(() => true, options.fenceTimeoutMs);
      const prepare = (client: StoreClient) => recoverNode(options, client, () => true);
      return new NodeConnection({ locate: () => url.address, access: url, ...options, fence, prepare });
    }
  }
}
