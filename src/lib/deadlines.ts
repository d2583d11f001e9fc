// Many deadlines, one timer: what waits in a call costs no timer of its own.

/** What ends when its time has come. */
export type Expiring = {
  /** On the clock of performance.now(). */
  readonly deadlineMs: number;
  onDeadline(): void;
};

export type Deadlines = {
  /** Calls `onDeadline` once, within about 5 ms after `deadlineMs`, unless it is removed before. */
  add(wait: Expiring): void;
  /** Harmless when its time has come, or it was never added. */
  remove(wait: Expiring): void;
};

const BUCKET_MS = 5;
/** setTimeout cannot wait longer. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export function createDeadlines(): Deadlines {
  const buckets = new Map<number, Set<Expiring>>();
  let timer: NodeJS.Timeout | undefined;
  let armedFor = Infinity;

  function arm(bucket: number): void {
    clearTimeout(timer);
    armedFor = bucket;
    const waitMs = Math.min(MAX_TIMER_MS, Math.max(1, bucket * BUCKET_MS - performance.now()));
    timer = setTimeout(fire, waitMs);
    timer.unref();
  }

  function fire(): void {
    armedFor = Infinity;
    const nowMs = performance.now();
    let earliest = Infinity;
    for (const [bucket, waits] of buckets) {
      if (bucket * BUCKET_MS > nowMs) {
        earliest = Math.min(earliest, bucket);
        continue;
      }
      for (const wait of waits) wait.onDeadline();
      // The last one of them may have been removed meanwhile, and others come.
      if (buckets.get(bucket) === waits) buckets.delete(bucket);
    }
    if (earliest < armedFor) arm(earliest);
  }

  return {
    add(wait) {
      const bucket = bucketOf(wait);
      let waits = buckets.get(bucket);
      if (waits === undefined) buckets.set(bucket, (waits = new Set()));
      waits.add(wait);
      if (bucket < armedFor) arm(bucket);
    },
    remove(wait) {
      const bucket = bucketOf(wait);
      const waits = buckets.get(bucket);
      if (waits?.delete(wait) && waits.size === 0) buckets.delete(bucket);
    },
  };
}

function bucketOf({ deadlineMs }: Expiring): number {
  return Math.ceil(Math.min(deadlineMs, Number.MAX_SAFE_INTEGER) / BUCKET_MS);
}
