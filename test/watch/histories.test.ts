// The watch during faults: checks the properties of recorded histories of three instances on one store.
//
// To repeat a failure, set WATCH_SEED to the seed in the name of its file, and WATCH_HISTORIES to 1.

import assert from "node:assert/strict";
import { test } from "node:test";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { rounds } from "../helpers/rounds.ts";
import { runHistories } from "./run_many.ts";

const HISTORIES = rounds({ quick: 10, all: 100, variable: "WATCH_HISTORIES" });
const SEED = Number(process.env["WATCH_SEED"] ?? Math.floor(Math.random() * 1e9));

test(`${HISTORIES} histories: no change is missed without a reset`, { skip: redisServerMissing() }, async (t) => {
  const { failures, ...counts } = await runHistories(SEED, HISTORIES);
  t.diagnostic(`seed ${SEED}: ${JSON.stringify(counts)}`);
  assert.deepEqual(failures, []);
  assert.equal(counts.histories, HISTORIES);
  // Histories without writes, resets and resumptions would test nothing.
  assert.ok(counts.writes > HISTORIES * 20, `only ${counts.writes} writes`);
  if (HISTORIES < 100) return;
  assert.ok(counts.resets > 0 && counts.resumptions > 0);
});
