// The command of the fence, on a key of this service that a node serves.

import { PARTITION_TAGS } from "../partition_tags.ts";
import { slotOf } from "./slots.ts";
import type { StoreArguments } from "./store_client.ts";

/**
 * The fence: a write that changes nothing, sent twice a second. A node that accepts it was a writable primary at that moment, so
 * a node that was demoted, or is cut off from its replicas, is noticed without any other traffic.
 */
export type Fence = {
  /** The command; undefined if the node has no key of this service. */
  readonly command: () => StoreArguments | undefined;
  /**
   * Returns true if a refusal is only about the key of the last command, because the cluster moves its slot to another node:
   * then the next command is about another key.
   */
  readonly skipsKey: (reply: Error) => boolean;
  /** No reply of the node counts if no fence has been accepted for so long. */
  readonly timeoutMs: number;
  /** Called with each refusal. */
  readonly onRefused?: (reply: Error) => void;
};

/** In the order of their slots, each in another one, so that every primary of a cluster has some. No such key ever exists. */
const FENCE_KEYS = PARTITION_TAGS.map((tag) => ({ slot: slotOf(`{${tag}}`), key: `sa:{${tag}}:fence` })).toSorted(
  (one, other) => one.slot - other.slot,
);

/**
 * Returns the fence of a node that serves the slots for which `owns` returns true. It deletes a key that does not exist: a write
 * that is refused like any other, is not replicated and needs no memory.
 */
export function fenceOf(owns: (slot: number) => boolean, timeoutMs: number): Fence {
  let last = 0;
  /** Returns the index of the first key from this one on whose slot is the node's; -1 if there is none. */
  const indexFrom = (from: number) => FENCE_KEYS.findIndex(({ slot }, index) => index >= from && owns(slot));

  return {
    command() {
      last = indexFrom(last);
      if (last === -1) last = indexFrom(0);
      return last === -1 ? undefined : ["DEL", FENCE_KEYS[last]!.key];
    },
    skipsKey(reply) {
      if (!reply.message.startsWith("ASK ")) return false;
      const next = indexFrom(last + 1);
      // After the last key, the next fence begins with the first.
      last = Math.max(0, next);
      return next !== -1;
    },
    timeoutMs,
  };
}
