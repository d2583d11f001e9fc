// Detects a store process that hangs: it accepts bytes but sends none.

/** How long a reply may be overdue. */
export const SILENCE_MS = 1_500;
const PING_INTERVAL_MS = 500;

/**
 * Pings the store and calls `onSilence` if a reply is overdue; returns a function that stops that. The socket's own timeout
 * does not detect a hung store under traffic, because every write restarts it.
 */
export function startPinging(ping: () => Promise<unknown>, onSilence: () => void): () => void {
  let sentMs: number | undefined;
  let tickMs = performance.now();
  const timer = setInterval(() => {
    const nowMs = performance.now();
    const wasBlocked = nowMs - tickMs > 2 * PING_INTERVAL_MS;
    tickMs = nowMs;
    if (sentMs === undefined) {
      sentMs = nowMs;
      ping().then(
        () => (sentMs = undefined),
        () => undefined,
      );
    } else if (wasBlocked) {
      // This process itself was blocked, so the reply may be in the socket; give it another period.
      sentMs = nowMs;
    } else if (nowMs - sentMs >= SILENCE_MS - PING_INTERVAL_MS / 10) {
      onSilence();
    }
  }, PING_INTERVAL_MS);
  timer.unref();
  return () => clearInterval(timer);
}
