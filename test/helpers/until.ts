// Waits for a condition that nothing announces.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

/** Generous, for a busy machine. */
const PATIENCE_MS = 30_000;

export async function until(
  what: string,
  condition: () => Promise<boolean> | boolean,
  patienceMs = PATIENCE_MS,
): Promise<void> {
  const deadlineMs = performance.now() + patienceMs;
  while (!(await condition())) {
    if (performance.now() > deadlineMs) assert.fail(`${what}: not within ${patienceMs} ms`);
    await sleep(20);
  }
}
