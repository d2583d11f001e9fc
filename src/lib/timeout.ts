// A timer for an instant, however far away that is.

/** The longest delay that setTimeout can wait for: 24.8 days. Given a longer one, it fires at once. */
export const MAX_TIMEOUT_MS = 2 ** 31 - 1;

/**
 * Calls `callback` when the clock of performance.now() reaches `deadlineMs`, but no later than after MAX_TIMEOUT_MS. The
 * timer does not keep the process alive; clearTimeout stops it.
 */
export function startTimeout(deadlineMs: number, callback: () => void): NodeJS.Timeout {
  return setTimeout(callback, Math.min(MAX_TIMEOUT_MS, Math.max(1, Math.ceil(deadlineMs - performance.now())))).unref();
}
