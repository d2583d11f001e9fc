// Measures for how long other work on the machine kept this process from running: nothing can meet a deadline in that time.

const TICK_MS = 5;

/** Starts to measure. The returned function stops, and returns how many milliseconds were lost. */
export function countLostTime(): () => number {
  let lostMs = 0;
  let lastMs = performance.now();
  const tick = () => {
    const nowMs = performance.now();
    lostMs += Math.max(0, nowMs - lastMs - 2 * TICK_MS);
    lastMs = nowMs;
  };
  const timer = setInterval(tick, TICK_MS);
  return () => {
    clearInterval(timer);
    tick();
    return lostMs;
  };
}
