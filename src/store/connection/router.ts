// What each topology of the store implements: single node, Sentinel, Cluster.

import type { Logger } from "pino";
import type { NodeConnection, StoreArguments, StoreReply } from "./node_connection.ts";
import type { NodeAddress } from "./store_url.ts";

/** Sends each command to the node of its key. Errors are those of NodeConnection. */
export type StoreRouter = {
  send(key: string, args: StoreArguments): Promise<StoreReply>;
  /** Returns true if commands for every key can be sent. */
  isReady(): boolean;
  /** Returns the address of a node that is connected; undefined if there is none. */
  nodeAddress(): NodeAddress | undefined;
  close(): Promise<void>;
};

export type RouterOptions = {
  readonly log: Logger;
  /** As in NodeConnectionOptions. */
  readonly maxPending: number | undefined;
  /** Called with each change of isReady(). */
  readonly onReadyChange: (ready: boolean) => void;
};

/** Sends every command to one node. */
export function routeToOneNode(node: NodeConnection): StoreRouter {
  return {
    send: (_key, args) => node.send(args),
    isReady: () => node.isReady(),
    nodeAddress: () => (node.isReady() ? node.address() : undefined),
    close: () => node.close(),
  };
}
