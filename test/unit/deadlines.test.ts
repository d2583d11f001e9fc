// What shares the one timer: everything ends once when its time has come, and nothing that was removed.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createDeadlines } from "../../src/lib/deadlines.ts";

/** What has ended, in that order; `after` runs when it does. */
function setUp() {
  const deadlines = createDeadlines();
  const ended: string[] = [];
  const startMs = performance.now();
  function wait(name: string, inMs: number, after?: () => void) {
    const deadlineMs = startMs + inMs;
    const one = {
      deadlineMs,
      onDeadline() {
        assert.ok(performance.now() >= deadlineMs, `${name} ended early`);
        ended.push(name);
        after?.();
      },
    };
    deadlines.add(one);
    return one;
  }
  /** Once the one named so has ended. The timer does not keep a process alive, and this does. */
  const until = (inMs: number) =>
    new Promise<void>((resolve) => {
      const alive = setInterval(() => undefined, 1000);
      wait("last", inMs, () => {
        clearInterval(alive);
        resolve();
      });
    });
  return { deadlines, ended, wait, until };
}

test("everything ends once, in the order of the deadlines", async () => {
  const { ended, wait, until } = setUp();
  wait("third", 60);
  wait("first", 10);
  wait("never", Infinity);
  wait("second", 30);
  await until(90);
  assert.deepEqual(ended, ["first", "second", "third", "last"]);
});

test("what is removed does not end, not even by one that ends with it", async () => {
  const { deadlines, ended, wait, until } = setUp();
  deadlines.remove(wait("before", 10));
  wait("remover", 20, () => deadlines.remove(together));
  const together = wait("together", 20);
  await until(50);
  assert.deepEqual(ended, ["remover", "last"]);
});

test("what is added by the last one of its time ends, too", async () => {
  const { deadlines, ended, wait, until } = setUp();
  const first = wait("first", 20, () => {
    deadlines.remove(first);
    wait("added", 20);
  });
  await until(50);
  assert.deepEqual(ended, ["first", "added", "last"]);
});
