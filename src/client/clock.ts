// The clock of the cache: it never goes back, and never falls behind real time.
//
// The monotonic clock stands still while a machine or a container is suspended, so that a lease that ended meanwhile would look
// valid at wake-up. So this clock adds what the wall clock has gained on the monotonic clock. If the wall clock is set back,
// gains count from there: otherwise a suspend of up to that time would not be seen.

/** The two clocks differ by so much from one reading to the next without a change of either. */
const JITTER_MS = 20;

let gainedMs = 0;
let wallStartMs = Date.now() - performance.now();

/** Returns milliseconds from an arbitrary origin. */
export function nowMs(): number {
  const monotonicMs = performance.now();
  const aheadMs = Date.now() - monotonicMs;
  gainedMs = Math.max(gainedMs, aheadMs - wallStartMs);
  wallStartMs = Math.min(wallStartMs, aheadMs - gainedMs + JITTER_MS);
  return monotonicMs + gainedMs;
}
