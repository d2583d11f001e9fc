// Waits until replicas have what the store has acknowledged.

import type { CallDeadline } from "../domain/call.ts";
import { withTimeout } from "./connection/call_deadline.ts";
import type { StoreConnection } from "./connection/connection.ts";
import { storeUnavailable } from "./connection/errors.ts";
import { withClient } from "./connection/store_client.ts";
import { replicationKey } from "./keys.ts";

/** A store that sends nothing for 1.5 s counts as hung, so a longer wait is made of several. */
const STEP_MS = 1_000;
/** For the connection, and for a reply that is late. */
const SLACK_MS = 2_000;

export type Replication = ReturnType<typeof createReplication>;

export function createReplication(connection: StoreConnection) {
  /**
   * Waits until `minReplicas` replicas have everything that the primary of a partition has acknowledged so far, and at most
   * `timeoutMs`. Resolves to the number of those that have it. On a connection of its own, since it blocks all others on it.
   */
  async function reached(
    partition: number,
    minReplicas: number,
    timeoutMs: number,
    call: CallDeadline,
  ): Promise<number> {
    const key = replicationKey(partition);
    const address = connection.nodeAddress(key);
    if (address === undefined) throw storeUnavailable();
    const untilMs = performance.now() + timeoutMs;
    const waiting = withClient(address, connection.url, timeoutMs + SLACK_MS, async (client) => {
      // WAIT is about the last write of its own connection, which comes after everything that was acknowledged.
      await client.sendCommand(["SET", key, "", "PX", String(STEP_MS)]);
      for (;;) {
        const leftMs = Math.max(1, Math.min(STEP_MS, untilMs - performance.now()));
        const count = await client.sendCommand<number>(["WAIT", String(minReplicas), String(Math.ceil(leftMs))]);
        if (count >= minReplicas || performance.now() >= untilMs) return count;
      }
    });
    return withTimeout(call, waiting);
  }

  return { reached };
}
