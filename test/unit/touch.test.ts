// The guess whether a session's touch interval has passed: by the rule of the store, and by the store's clock.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createTouch } from "../../src/service/validation/touch.ts";

const sessions = { get: () => assert.fail("no session is read") };
const NOW_MS = 1_000_000_000_000;
const DAY_MS = 86_400_000;

for (const { configuredMs, idleTimeoutMs, intervalMs } of [
  { configuredMs: undefined, idleTimeoutMs: 1000, intervalMs: 10 },
  { configuredMs: undefined, idleTimeoutMs: DAY_MS, intervalMs: 60_000 },
  { configuredMs: 10_000, idleTimeoutMs: 3000, intervalMs: 300 },
  { configuredMs: 10_000, idleTimeoutMs: 100_000, intervalMs: 10_000 },
  { configuredMs: 10_000, idleTimeoutMs: DAY_MS, intervalMs: 10_000 },
  { configuredMs: 0, idleTimeoutMs: DAY_MS, intervalMs: 0 },
]) {
  test(`with SA_TOUCH_INTERVAL=${configuredMs}, an idle timeout of ${idleTimeoutMs} ms slides after ${intervalMs} ms`, () => {
    const touch = createTouch(sessions, { nowMs: () => NOW_MS }, configuredMs);
    const isDueAfter = (sinceMs: number) =>
      touch.isDue({ idleTimeoutMs, lastAccessedMs: NOW_MS - sinceMs, isEvictable: false });
    assert.deepEqual([isDueAfter(intervalMs - 1), isDueAfter(intervalMs)], [false, true]);
  });
}

test("the store's clock counts, and our own only while the store's is unknown", (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: NOW_MS });
  const session = { idleTimeoutMs: 3000, lastAccessedMs: NOW_MS, isEvictable: false };
  const isDueAt = (storeMs: number | undefined) => createTouch(sessions, { nowMs: () => storeMs }, 0).isDue(session);
  assert.deepEqual([NOW_MS - 1, NOW_MS, undefined].map(isDueAt), [false, true, true]);
});

test("a session that a limit may evict slides after a second of use, because eviction goes by the last access", () => {
  const isDueAfter = (sinceMs: number, configuredMs: number | undefined) =>
    createTouch(sessions, { nowMs: () => NOW_MS }, configuredMs).isDue({
      ...{ idleTimeoutMs: DAY_MS, lastAccessedMs: NOW_MS - sinceMs, isEvictable: true },
    });
  assert.deepEqual([isDueAfter(999, undefined), isDueAfter(1000, undefined)], [false, true]);
  assert.deepEqual([isDueAfter(999, 10_000), isDueAfter(1000, 10_000)], [false, true]);
  assert.deepEqual([isDueAfter(99, 100), isDueAfter(100, 100)], [false, true]);
});
