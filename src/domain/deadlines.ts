// Many deadlines, one timer: what waits in a call costs no timer of its own.

export type Deadlines = {
  /** Calls `onPassed` once, within about 5 ms after `deadlineMs` on the clock of performance.now(); returns how to stop that. */
  add(deadlineMs: number, onPassed: () => void): () => void;
};

const BUCKET_MS = 5;
/** setTimeout cannot wait longer. */
const MAX_TIMER_MS = 2 ** 31 - 1;

type Wait = { onPassed: () => void };

export function createDeadlines(): Deadlines {
  const buckets = new Map<number, Set<Wait>>();
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
      buckets.delete(bucket);
      for (const wait of waits) wait.onPassed();
    }
    if (earliest < armedFor) arm(earliest);
  }

  return {
    add(deadlineMs, onPassed) {
      const bucket = Math.ceil(Math.min(deadlineMs, Number.MAX_SAFE_INTEGER) / BUCKET_MS);
      let waits = buckets.get(bucket);
      if (waits === undefined) buckets.set(bucket, (waits = new Set()));
      const wait = { onPassed };
      waits.add(wait);
      if (bucket < armedFor) arm(bucket);
      return () => {
        waits.delete(wait);
        if (waits.size === 0 && buckets.get(bucket) === waits) buckets.delete(bucket);
      };
    },
  };
}
