// An estimate of the store's clock that is never behind it, so that what counts down by it ends early rather than late.

import type { CallDeadline } from "../domain/call.ts";
import type { StoreConnection } from "./connection/connection.ts";
import { partitionKeys } from "./keys.ts";

const SAMPLE_INTERVAL_MS = 2000;
const SAMPLE_TIMEOUT_MS = 1000;
/** The store's clock is assumed to run faster than this process's by at most this factor. */
const DRIFT = 1.001;
const STALE_MS = 5000;

export type StoreClock = {
  /** Milliseconds since 1970, not less than the store's clock; undefined if the store has not been sampled for 5 s. */
  nowMs(): number | undefined;
  stop(): void;
};

export function startStoreClock(connection: StoreConnection): StoreClock {
  let sample: { readonly storeMs: number; readonly sentMs: number } | undefined;
  const stopped = new AbortController();

  async function takeSample(): Promise<void> {
    const sentMs = performance.now();
    const call: CallDeadline = { deadlineMs: sentMs + SAMPLE_TIMEOUT_MS, signal: stopped.signal };
    const [seconds, micros] = (await connection.send(partitionKeys(0)[0], ["TIME"], call)) as Buffer[];
    sample = { storeMs: Number(seconds) * 1000 + Math.ceil(Number(micros) / 1000), sentMs };
  }

  // A failed sample needs no handling: the last one ages until it is stale.
  const takeSampleQuietly = () => void takeSample().catch(() => undefined);
  takeSampleQuietly();
  const timer = setInterval(takeSampleQuietly, SAMPLE_INTERVAL_MS);
  return {
    nowMs() {
      const sinceMs = sample === undefined ? Infinity : performance.now() - sample.sentMs;
      return sinceMs > STALE_MS ? undefined : sample!.storeMs + sinceMs * DRIFT;
    },
    stop() {
      clearInterval(timer);
      stopped.abort();
    },
  };
}
