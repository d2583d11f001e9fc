// How long to wait before something that has failed is started again.

export type RestartPolicy = {
  readonly minDelayMs: number;
  readonly maxDelayMs: number;
  /** What ran for longer than this counts as sound: the failures before it are forgotten. */
  readonly healthyMs: number;
};

/**
 * Returns a function that takes how long the process that has just died ran, in ms, and returns the delay before its
 * restart, in ms: none after the first failure in a row, then about twice as long each time. The delay is between half and
 * all of that, at random, so that processes that died together do not start together.
 */
export function createRestartDelays({ minDelayMs, maxDelayMs, healthyMs }: RestartPolicy): (ranMs: number) => number {
  let failures = 0;
  return (ranMs) => {
    failures = ranMs > healthyMs ? 0 : failures + 1;
    if (failures <= 1) return 0;
    return Math.min(maxDelayMs, minDelayMs * 2 ** Math.min(failures, 10)) * (0.5 + Math.random() / 2);
  };
}
