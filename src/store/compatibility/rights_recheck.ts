// After the store has refused a command for want of a right, the instance is not ready until the probes pass again.

import type { StoreConnection } from "../connection/connection.ts";
import { probeStore } from "./compatibility_check.ts";

const RECHECK_INTERVAL_MS = 2_000;
const PROBE_TIMEOUT_MS = 10_000;

/** Returns a function that stops it. */
export function startRightsRecheck(connection: StoreConnection): () => void {
  const stopped = new AbortController();
  let timer: NodeJS.Timeout | undefined;

  const removeListener = connection.onReadyChange(() => {
    if (connection.fault() === "NOPERM") schedule();
  });

  function schedule(): void {
    timer ??= setTimeout(() => void recheck(), RECHECK_INTERVAL_MS).unref();
  }

  async function recheck(): Promise<void> {
    const call = { deadlineMs: performance.now() + PROBE_TIMEOUT_MS, signal: stopped.signal };
    const isRestored = await probeStore(connection, call).then(
      () => true,
      () => false,
    );
    timer = undefined;
    if (isRestored) connection.rightsRestored();
    else if (!stopped.signal.aborted) schedule();
  }

  return () => {
    removeListener();
    stopped.abort();
    clearTimeout(timer);
  };
}
