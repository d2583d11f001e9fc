// The change-log reader subscribes to published changes only once it knows where the logs end.

import assert from "node:assert/strict";
import { test } from "node:test";
import { pino } from "pino";
import type { ChangeLog } from "../../src/store/watch_change_log.ts";
import { ChangeLogReader } from "../../src/watch/change_log_reader.ts";

test("a start that fails leaves no subscription open", async (t) => {
  const subscribe = t.mock.fn<ChangeLog["subscribe"]>();
  const changes: ChangeLog = {
    readTails: () => Promise.reject(new Error("no store")),
    readLog: () => Promise.resolve([]),
    subscribe,
    tailSpacingMs: 0,
  };
  const events = { onChange: () => undefined, onReset: () => undefined };
  const reader = new ChangeLogReader(changes, events, pino({ level: "silent" }));
  await assert.rejects(reader.start(), /no store/);
  assert.equal(subscribe.mock.callCount(), 0);
});
