// The sweep: within 5 s it tells the change log and the audit trails of every session that a timeout has ended. The
// expiry itself never waits for it, and any number of instances may sweep one store.

import type { Logger } from "pino";
import { PARTITION_COUNT } from "../domain/owner.ts";
import type { StoreConnection } from "./connection/connection.ts";
import type { SessionStore } from "./simple_sessions.ts";

const ROUND_MS = 4000;
const PARTITIONS_PER_STEP = 16;
const STEP_MS = (ROUND_MS * PARTITIONS_PER_STEP) / PARTITION_COUNT;
const SESSIONS_PER_SCRIPT = 100;
// Few: the first looks of a step stand in the store's line as one.
const SESSIONS_PER_LOOK = 4;
const SCRIPT_TIMEOUT_MS = 1000;

/** Sweeps until the returned function is called; that resolves when the step under way has ended. */
export function startSweep(sessions: SessionStore, connection: StoreConnection, log: Logger): () => Promise<void> {
  const stopped = new AbortController();
  let nextPartition = 0;
  let step: Promise<void> | undefined;

  /** Looks at all partitions of the step in one round trip, for most have nothing; then at those that have more. */
  async function sweepStep(): Promise<void> {
    const partitions = Array.from({ length: PARTITIONS_PER_STEP }, (_, i) => nextPartition + i);
    const found = await Promise.all(partitions.map((partition) => expire(partition, SESSIONS_PER_LOOK)));
    for (const [i, partition] of partitions.entries())
      if (found[i] === SESSIONS_PER_LOOK) await sweepPartition(partition);
    nextPartition = (nextPartition + PARTITIONS_PER_STEP) % PARTITION_COUNT;
  }

  async function sweepPartition(partition: number): Promise<void> {
    while (!stopped.signal.aborted && (await expire(partition, SESSIONS_PER_SCRIPT)) === SESSIONS_PER_SCRIPT);
  }

  function expire(partition: number, limit: number): Promise<number> {
    const call = { deadlineMs: performance.now() + SCRIPT_TIMEOUT_MS, signal: stopped.signal };
    return sessions.expire(partition, limit, call);
  }

  const timer = setInterval(() => {
    if (step !== undefined || !connection.isReady()) return;
    step = sweepStep()
      .catch((error: unknown) => {
        if (!stopped.signal.aborted) log.warn({ err: error }, "sweep of expired sessions interrupted");
      })
      .finally(() => (step = undefined));
  }, STEP_MS);

  return async () => {
    clearInterval(timer);
    stopped.abort();
    await step;
  };
}
