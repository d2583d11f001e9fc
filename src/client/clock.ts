// The clock of the cache: it never goes back, and never falls behind real time.
//
// The monotonic clock stands still while a machine or a container is suspended, and a lease that was over long ago would
// look good when it wakes. So whatever the wall clock gained on it is added; what the wall clock loses is not.

let gainedMs = 0;
const wallStartMs = Date.now() - performance.now();

/** Milliseconds; only differences mean something. */
export function nowMs(): number {
  const monotonicMs = performance.now();
  gainedMs = Math.max(gainedMs, Date.now() - wallStartMs - monotonicMs);
  return monotonicMs + gainedMs;
}
