// The clock of the cache: it never goes back, and never falls behind real time.
//
// The monotonic clock stands still while a machine or a container is suspended, so that a lease that ended meanwhile would look
// valid at wake-up. So this clock adds what the wall clock has gained on the monotonic clock, and ignores what it has lost.

let gainedMs = 0;
const wallStartMs = Date.now() - performance.now();

/** Returns milliseconds from an arbitrary origin. */
export function nowMs(): number {
  const monotonicMs = performance.now();
  gainedMs = Math.max(gainedMs, Date.now() - wallStartMs - monotonicMs);
  return monotonicMs + gainedMs;
}
