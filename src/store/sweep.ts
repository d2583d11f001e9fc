// The sweep: records the end of each session that a timeout has ended, in the change log and in the audit trail, within
// 5 s. The expiry itself never waits for it, and any number of instances may sweep one store.

import type { Logger } from "pino";
import type { CallDeadline } from "../domain/call.ts";
import { PARTITION_COUNT } from "../domain/owner.ts";
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

/**
 * Sweeps until the returned function is called, which resolves when the scripts that run have ended. Each partition is swept
 * for itself, so that one whose node does not reply, or refuses, delays no other.
 */
export function startSweep(store: SweepStore, log: Logger): () => Promise<void> {
  const stopped = new AbortController();
  const underway = new Map<number, Promise<void>>();
  const failing = new Set<number>();
  let nextPartition = 0;

  async function sweepPartition(partition: number): Promise<void> {
    try {
      let limit = SESSIONS_PER_FIRST_SCRIPT;
      while ((await expire(partition, limit)) === limit && !stopped.signal.aborted) limit = SESSIONS_PER_SCRIPT;
      failing.delete(partition);
    } catch (error) {
      if (stopped.signal.aborted) return;
      // While a store is away, all partitions fail in every round.
      const level = failing.size > 0 ? "debug" : "warn";
      failing.add(partition);
      log[level]({ err: error, partition }, "cannot sweep a partition; the next round tries again");
    }
  }

  function expire(partition: number, limit: number): Promise<number> {
    const call = { deadlineMs: performance.now() + SCRIPT_TIMEOUT_MS, signal: stopped.signal };
    return store.expire(partition, limit, call);
  }

  const timer = setInterval(() => {
    for (let i = 0; i < PARTITIONS_PER_STEP; i++) {
      const partition = nextPartition + i;
      if (underway.has(partition)) continue;
      underway.set(
        partition,
        sweepPartition(partition).finally(() => underway.delete(partition)),
      );
    }
    nextPartition = (nextPartition + PARTITIONS_PER_STEP) % PARTITION_COUNT;
  }, STEP_MS);

  return async () => {
    clearInterval(timer);
    stopped.abort();
    await Promise.all(underway.values());
  };
}
