// The time this process was kept from running, by other work on the machine: no deadline can be met in it.

const TICK_MS = 5;

/** Starts to count; the returned function ends that and tells how many ms were lost. */
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
