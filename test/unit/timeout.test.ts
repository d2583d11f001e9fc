// The timer for an instant: it fires once at its deadline, and a deadline that is too far away for setTimeout is clamped.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MAX_TIMEOUT_MS, startTimeout } from "../../src/lib/timeout.ts";

test("fires once at the deadline", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  t.mock.method(performance, "now", () => 1_000);
  const fired: string[] = [];
  startTimeout(1_020.5, () => fired.push("second"));
  startTimeout(1_010, () => fired.push("first"));
  t.mock.timers.tick(20);
  assert.deepEqual(fired, ["first"]);
  t.mock.timers.tick(1);
  assert.deepEqual(fired, ["first", "second"]);
  t.mock.timers.tick(100);
  assert.deepEqual(fired, ["first", "second"]);
});

test("a deadline that has passed fires at the next turn", async () => {
  await new Promise<void>((resolve) => {
    startTimeout(performance.now() - 5, resolve).ref();
  });
});

for (const [name, deadlineMs] of [
  ["of 30 days", 30 * 24 * 3_600_000],
  ["of Infinity", Infinity],
] as const) {
  test(`a deadline ${name} is clamped to the longest delay of setTimeout`, (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    let fired = 0;
    startTimeout(performance.now() + deadlineMs, () => fired++);
    t.mock.timers.tick(MAX_TIMEOUT_MS - 1);
    assert.equal(fired, 0);
    t.mock.timers.tick(1);
    assert.equal(fired, 1);
  });
}

test("does not fire after clearTimeout", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  clearTimeout(startTimeout(performance.now() + 10, () => assert.fail("it has fired")));
  t.mock.timers.tick(20);
});
