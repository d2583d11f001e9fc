// What each topology of the store implements, and what it gets.

import type { NodeConnection, NodeConnectionOptions } from "./node_connection.ts";
import type { StoreArguments, StoreReply } from "./store_client.ts";

/** A topology: a single node, Sentinel or Cluster. */
export type StoreRouter = Pick<
  NodeConnection,
  "isReady" | "fault" | "prove" | "rightsRestored" | "nodeAddress" | "close"
> & {
  /** Sends a command to the node of `key`; the errors are those of NodeConnection. */
  send(args: StoreArguments, key: string): Promise<StoreReply>;
};

export type RouterOptions = Pick<NodeConnectionOptions, "log" | "maxPending" | "onReadyChange"> & {
  readonly fenceTimeoutMs: number;
};
