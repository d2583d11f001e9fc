// What each topology of the store implements, and what it gets.

import type { NodeConnection, NodeConnectionOptions } from "./node_connection.ts";
import { storeError } from "./errors.ts";
import { slotOf } from "./slots.ts";
import type { NodeAddress } from "./store_url.ts";
import type { StoreArguments, StoreClient, StoreReply } from "./store_client.ts";

/** A node that is about to be used. */
export type NewNode = {
  /** The errors are those of StoreConnection.send. */
  readonly send: (args: StoreArguments) => Promise<StoreReply>;
  /** Returns true if the node serves this key. */
  readonly serves: (key: string) => boolean;
};

/** A topology: a single node, Sentinel or Cluster. */
export type StoreRouter = Pick<NodeConnection, "isReady" | "fault" | "prove" | "rightsRestored" | "close"> & {
  /** Sends a command to the node of `key`; the errors are those of NodeConnection. */
  send(args: StoreArguments, key: string): Promise<StoreReply>;
  /** Returns the node of a key or, without one, any connected node; undefined if it is not connected. */
  nodeAddress(key?: string): NodeAddress | undefined;
};

export type RouterOptions = Pick<NodeConnectionOptions, "log" | "maxPending" | "onReadyChange"> & {
  readonly fenceTimeoutMs: number;
  /** Brings a primary up to date before it becomes ready; a rejection ends the connection. */
  readonly recover?: ((node: NewNode) => Promise<void>) | undefined;
};

/** Brings the node of a client, which serves the slots for which `owns` returns true, up to date. */
export async function recoverNode(
  { recover }: Pick<RouterOptions, "recover">,
  client: StoreClient,
  owns: (slot: number) => boolean,
): Promise<void> {
  await recover?.({
    send: (args) =>
      client.sendCommand<StoreReply>(args).catch((error: unknown) => {
        throw storeError(error);
      }),
    serves: (key) => owns(slotOf(key)),
  });
}
