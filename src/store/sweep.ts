// The sweep: records the end of each session that a timeout has ended, in the change log and in the audit trail, within
// 5 s. The expiry itself never waits for it.
//
// One instance of a store sweeps, the one that has a lease. If two did, nothing would be recorded twice: the lease only saves
// work. The instance remembers the first deadline of each partition. It reads that again when the partition had a change,
// because every new or earlier deadline comes with one.

import { randomUUID } from "node:crypto";
import type { Logger } from "pino";
import type { CallDeadline } from "../domain/call.ts";
import { PARTITION_COUNT } from "../domain/owner.ts";
import type { StoreConnection } from "./connection/connection.ts";
import type { StoreDependencies } from "./dependencies.ts";
import { partitionKeys, SWEEP_LEASE_KEY } from "./keys.ts";
import type { StoreClock } from "./store_clock.ts";

const STEP_MS = 250;
/** A lease is renewed in time for one renewal to fail. Another instance takes it over within 4.5 s after its holder's death. */
const LEASE_MS = 2000;
const RENEW_MS = 800;
const ACQUIRE_MS = 2200;
/** The first deadline of a partition with changes is read no more often than this. A session lasts for 1 s at least. */
const READ_SPACING_MS = 3000;
/** Published changes may get lost: so often the tails of all logs are read. */
const SYNC_MS = 4000;
/** Within this time, each partition is read once even if it had no change. */
const AUDIT_MS = 300_000;
const SESSIONS_PER_SCRIPT = 100;
// Keep these small: the first scripts of a step are pipelined back to back, and the store is blocked for their sum.
const SESSIONS_PER_FIRST_SCRIPT = 4;
const SWEEPS_PER_STEP = 32;
const COMMAND_TIMEOUT_MS = 1000;

/** What a sweep has found: how many sessions had ended, and the first deadline that is left, Infinity if there is none. */
export type Swept = { readonly count: number; readonly nextMs: number };

export type SweepStore = ReturnType<typeof createSweepStore>;

export function createSweepStore({ connection, scripts, settings }: StoreDependencies) {
  return {
    /** Records the end of at most `limit` expired sessions of a partition. */
    async expire(partition: number, limit: number, call: CallDeadline): Promise<Swept> {
      const args = [String(limit), String(settings.auditRetentionMs)];
      const { values } = await scripts.run("sweep_expired", partitionKeys(partition), args, call);
      return { count: Number(values[0]), nextMs: values[1] === undefined ? Infinity : Number(String(values[1])) };
    },

    /** Returns the first deadline of a partition, Infinity if there is none. It may be too early, but never too late. */
    async firstDeadline(partition: number, call: CallDeadline): Promise<number> {
      const key = partitionKeys(partition)[0];
      const reply = (await connection.send(key, ["ZRANGE", key, "0", "0", "WITHSCORES"], call)) as Buffer[];
      return reply[1] === undefined ? Infinity : Number(String(reply[1]));
    },

    /** Returns true if nobody had the lease, and the holder has it now. */
    async acquireLease(holder: string, call: CallDeadline): Promise<boolean> {
      const args = ["SET", SWEEP_LEASE_KEY, holder, "NX", "PX", String(LEASE_MS)];
      return (await connection.send(SWEEP_LEASE_KEY, args, call)) !== null;
    },

    /** Renews the holder's lease, or gives it up if `leaseMs` is 0. Returns false if it has none. */
    async renewLease(holder: string, leaseMs: number, call: CallDeadline): Promise<boolean> {
      const { values } = await scripts.run("sweep_renew_lease", [SWEEP_LEASE_KEY], [holder, String(leaseMs)], call);
      return values[0] === 1;
    },
  };
}

/** What the sweep needs of the change logs. */
export type ChangeEvents = {
  /** Calls the listener for each partition that has a change, or whose changes may have been missed. */
  onPartitionChanged(listener: (partition: number) => void): void;
  /** Resolves when the listener was called for every change until now. */
  sync(): Promise<void>;
};

export type SweepOptions = {
  readonly store: SweepStore;
  readonly connection: StoreConnection;
  readonly clock: Pick<StoreClock, "nowMs">;
  readonly changes: ChangeEvents;
  readonly log: Logger;
};

/** Sweeps until the returned function is called, which resolves when the commands that are under way have ended. */
export function startSweep(options: SweepOptions): () => Promise<void> {
  const sweeper = new Sweeper(options);
  return () => sweeper.stop();
}

type Partition = {
  readonly number: number;
  /** The first deadline, by the store's clock. */
  dueMs: number;
  /** True if that may be too late by now. */
  hasChanged: boolean;
  /** When it was read last, on the clock of performance.now(). */
  readMs: number;
  /** True while a command is under way. One partition whose node does not reply, or refuses, delays no other. */
  isBusy: boolean;
};

class Sweeper {
  readonly #options: SweepOptions;
  readonly #holder = randomUUID();
  readonly #stopped = new AbortController();
  readonly #partitions: readonly Partition[] = Array.from({ length: PARTITION_COUNT }, (_, number) => ({
    number,
    dueMs: Infinity,
    hasChanged: true,
    readMs: -Infinity,
    isBusy: false,
  }));
  readonly #failing = new Set<Partition>();
  readonly #underway = new Set<Promise<void>>();
  readonly #timer = setInterval(() => this.#step(), STEP_MS);
  readonly #stopListening: () => void;
  #hasLease = false;
  // When the lease is to be renewed or acquired, and the logs to be read; on the clock of performance.now().
  #nextLeaseMs = 0;
  #nextSyncMs = 0;
  #firstPartition = 0;

  constructor(options: SweepOptions) {
    this.#options = options;
    options.changes.onPartitionChanged((partition) => (this.#partitions[partition]!.hasChanged = true));
    // The store may be another one, or may have lost something.
    this.#stopListening = options.connection.onReadyChange((isReady) => isReady && this.#forgetDeadlines());
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#stopListening();
    this.#stopped.abort();
    await Promise.all(this.#underway);
    if (!this.#hasLease) return;
    const call = { deadlineMs: performance.now() + COMMAND_TIMEOUT_MS, signal: new AbortController().signal };
    // Otherwise it ends by itself.
    await this.#options.store.renewLease(this.#holder, 0, call).catch(() => undefined);
  }

  #step(): void {
    const nowMs = performance.now();
    if (nowMs >= this.#nextLeaseMs) this.#run(this.#keepLease());
    if (!this.#hasLease) return;
    if (nowMs >= this.#nextSyncMs) {
      this.#nextSyncMs = nowMs + SYNC_MS;
      // If it fails, the checkpoints fail as well, and the next one repeats it.
      this.#run(this.#options.changes.sync().catch(() => undefined));
    }
    const storeMs = this.#options.clock.nowMs() ?? -Infinity;
    let sweeps = 0;
    // Each step begins with another partition, so that all get their turn.
    this.#firstPartition = (this.#firstPartition + SWEEPS_PER_STEP) % PARTITION_COUNT;
    for (let i = 0; i < PARTITION_COUNT; i++) {
      const partition = this.#partitions[(this.#firstPartition + i) % PARTITION_COUNT]!;
      if (partition.isBusy) continue;
      if (nowMs - partition.readMs >= (partition.hasChanged ? READ_SPACING_MS : AUDIT_MS)) {
        this.#serve(partition, () => this.#readDeadline(partition));
      } else if (partition.dueMs < storeMs && sweeps < SWEEPS_PER_STEP) {
        sweeps++;
        this.#serve(partition, () => this.#sweep(partition));
      }
    }
  }

  /** Renews the lease, or tries to get it. Without a reply this instance sweeps what it can reach. */
  async #keepLease(): Promise<void> {
    const { store } = this.#options;
    this.#nextLeaseMs = Infinity;
    const had = this.#hasLease;
    // The pause of an instance may have been longer than its lease.
    const attempt = async () =>
      (had && (await store.renewLease(this.#holder, LEASE_MS, this.#call()))) ||
      (await store.acquireLease(this.#holder, this.#call()));
    this.#hasLease = await attempt().catch(() => !this.#stopped.signal.aborted);
    this.#nextLeaseMs = performance.now() + (this.#hasLease ? RENEW_MS : ACQUIRE_MS);
    if (this.#hasLease && !had) this.#forgetDeadlines();
  }

  #forgetDeadlines(): void {
    for (const partition of this.#partitions) Object.assign(partition, { hasChanged: true, readMs: -Infinity });
  }

  #serve(partition: Partition, act: () => Promise<void>): void {
    partition.isBusy = true;
    const acting = act().then(
      () => void this.#failing.delete(partition),
      (error: unknown) => this.#onFailure(partition, error),
    );
    this.#run(acting.finally(() => (partition.isBusy = false)));
  }

  #onFailure(partition: Partition, error: unknown): void {
    if (this.#stopped.signal.aborted) return;
    // While a store is away, all partitions fail again and again.
    const level = this.#failing.size > 0 ? "debug" : "warn";
    this.#failing.add(partition);
    const fields = { err: error, partition: partition.number };
    this.#options.log[level](fields, "cannot sweep a partition; the next round tries again");
  }

  async #readDeadline(partition: Partition): Promise<void> {
    // Before the read, so that a change meanwhile makes another.
    partition.hasChanged = false;
    partition.readMs = performance.now();
    try {
      partition.dueMs = await this.#options.store.firstDeadline(partition.number, this.#call());
    } catch (error) {
      partition.hasChanged = true;
      throw error;
    }
  }

  async #sweep(partition: Partition): Promise<void> {
    let limit = SESSIONS_PER_FIRST_SCRIPT;
    for (;;) {
      const { count, nextMs } = await this.#options.store.expire(partition.number, limit, this.#call());
      partition.dueMs = nextMs;
      if (count < limit || this.#stopped.signal.aborted) return;
      limit = SESSIONS_PER_SCRIPT;
    }
  }

  #call(): CallDeadline {
    return { deadlineMs: performance.now() + COMMAND_TIMEOUT_MS, signal: this.#stopped.signal };
  }

  #run(work: Promise<void>): void {
    this.#underway.add(work);
    void work.finally(() => this.#underway.delete(work));
  }
}
