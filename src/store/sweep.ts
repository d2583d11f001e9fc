// The sweep: records the end of each session that a timeout has ended, in the change log and in the audit trail, within
// 5 s. The expiry itself never waits for it, and any number of instances may sweep one store.

import type { Logger } from "pino";
import type { CallDeadline } from "../domain/call.ts";
import { PARTITION_COUNT } from "../domain/owner.ts";
import type { StoreConnection } from "./connection/connection.ts";
import type { StoreDependencies } from "./dependencies.ts";
import { partitionKeys } from "./keys.ts";

const ROUND_MS = 4000;
const PARTITIONS_PER_STEP = 16;
const STEP_MS = (ROUND_MS * PARTITIONS_PER_STEP) / PARTITION_COUNT;
const SESSIONS_PER_SCRIPT = 100;
// Keep this small: the first scripts of a step are pipelined back to back, and the store is blocked for their sum.
const SESSIONS_PER_FIRST_SCRIPT = 4;
const SCRIPT_TIMEOUT_MS = 1000;

export type SweepStore = ReturnType<typeof createSweepStore>;

export function createSweepStore({ scripts, settings }: StoreDependencies) {
  /** Records the end of at most `limit` expired sessions of a partition; returns how many there were. */
  async function expire(partition: number, limit: number, call: CallDeadline): Promise<number> {
    const args = [String(limit), String(settings.auditRetentionMs)];
    const { values } = await scripts.run("sweep_expired", partitionKeys(partition), args, call);
    return Number(values[0]);
  }

  return { expire };
}

/** Sweeps until the returned function is called, which resolves when the current step has ended. */
export function startSweep(store: SweepStore, connection: StoreConnection, log: Logger): () => Promise<void> {
  const stopped = new AbortController();
  let nextPartition = 0;
  let step: Promise<void> | undefined;

  /** Sweeps all partitions of the step in one round trip, because most have nothing; then again those that have more. */
  async function sweepStep(): Promise<void> {
    const partitions = Array.from({ length: PARTITIONS_PER_STEP }, (_, i) => nextPartition + i);
    const found = await Promise.all(partitions.map((partition) => expire(partition, SESSIONS_PER_FIRST_SCRIPT)));
    for (const [i, partition] of partitions.entries())
      if (found[i] === SESSIONS_PER_FIRST_SCRIPT) await sweepPartition(partition);
    nextPartition = (nextPartition + PARTITIONS_PER_STEP) % PARTITION_COUNT;
  }

  async function sweepPartition(partition: number): Promise<void> {
    while (!stopped.signal.aborted && (await expire(partition, SESSIONS_PER_SCRIPT)) === SESSIONS_PER_SCRIPT);
  }

  function expire(partition: number, limit: number): Promise<number> {
    const call = { deadlineMs: performance.now() + SCRIPT_TIMEOUT_MS, signal: stopped.signal };
    return store.expire(partition, limit, call);
  }

  const timer = setInterval(() => {
    if (step !== undefined || !connection.isReady()) return;
    step = sweepStep()
      .catch((error: unknown) => {
        if (!stopped.signal.aborted) log.warn({ err: error }, "sweep step failed; the next step repeats it");
      })
      .finally(() => (step = undefined));
  }, STEP_MS);

  return async () => {
    clearInterval(timer);
    stopped.abort();
    await step;
  };
}
