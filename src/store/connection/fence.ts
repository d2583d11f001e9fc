// The command of the fence, on a key of this service that a node serves.

import { PARTITION_TAGS } from "../partition_tags.ts";
import { SLOT_COUNT, slotOf } from "./slots.ts";
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

/** By slot. Each of these keys is in another slot, so that every primary of a cluster has some. No such key ever exists. */
const FENCE_KEYS: readonly (string | undefined)[] = fenceKeys();

/**
 * Returns the fence of a node that serves the slots for which `owns` returns true. It deletes a key that does not exist: a write
 * that is refused like any other, is not replicated and needs no memory.
 */
export function fenceOf(owns: (slot: number) => boolean, timeoutMs: number): Fence {
  let last = 0;
  /** Returns the first slot from this one on that has a key and is the node's; -1 if there is none. */
  const slotFrom = (from: number) =>
    FENCE_KEYS.findIndex((key, slot) => slot >= from && key !== undefined && owns(slot));

  return {
    command() {
      last = slotFrom(last);
      if (last === -1) last = slotFrom(0);
      return last === -1 ? undefined : ["DEL", FENCE_KEYS[last]!];
    },
    skipsKey(reply) {
      if (!reply.message.startsWith("ASK ")) return false;
      const next = slotFrom(last + 1);
      // After the last key, the next fence begins with the first.
      last = Math.max(0, next);
      return next !== -1;
    },
    timeoutMs,
  };
}

function fenceKeys(): (string | undefined)[] {
  const keys: (string | undefined)[] = Array.from({ length: SLOT_COUNT });
  for (const tag of PARTITION_TAGS) keys[slotOf(`{${tag}}`)] = `sa:{${tag}}:fence`;
  return keys;
}
