// `npm test` counts tests rightly, says why one failed or was skipped, and fails when it should.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

type Outcome = { code: number | null; text: string; last: string };

function runFixtures(...names: string[]): Promise<Outcome> {
  return runFixturesWith({ TEST_RERUN_FAILED: "0" }, ...names);
}

async function runFixturesWith(variables: Record<string, string>, ...names: string[]): Promise<Outcome> {
  const files = names.map((name) => `test/fixtures/reporter/${name}.fixture.ts`);
  const env = { ...process.env, TEST_TIMEOUT_MS: "1500", ...variables };
  // With it, node:test takes the runner for a test file of this run and does nothing.
  delete (env as NodeJS.ProcessEnv)["NODE_TEST_CONTEXT"];
  const child = spawn(process.execPath, ["scripts/test.ts", ...files], { env, stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  child.stdout.on("data", (chunk) => (text += chunk));
  child.stderr.on("data", (chunk) => (text += chunk));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, text, last: text.trimEnd().split("\n").at(-1)! };
}

test("tests in suites and subtests are counted, their parents are not", async () => {
  const { code, last } = await runFixtures("passing");
  assert.deepEqual({ code, last }, { code: 0, last: "3 passed, 0 failed, 0 skipped" });
});

test("a failure is told in full and fails the run", async () => {
  const { code, text, last } = await runFixtures("passing", "failing");
  assert.deepEqual({ code, last }, { code: 1, last: "4 passed, 4 failed, 0 skipped" });
  for (const part of ["sums > add up", "2 !== 3", "broken on purpose", "hook broken on purpose"]) {
    assert.ok(text.includes(part), part);
  }
  assert.ok(text.includes("printed by the failing file"));
});

test("skips are listed with their reasons and do not fail the run", async () => {
  const { code, text, last } = await runFixtures("skipping");
  assert.deepEqual({ code, last }, { code: 0, last: "1 passed, 0 failed, 4 skipped" });
  for (const part of [
    "skipped by option: no store here",
    "skipped inside: found out late",
    "not finished: todo one day",
    "skipped suite: no suite here",
  ]) {
    assert.ok(text.includes(part), part);
  }
});

for (const [name, totals, why] of [
  ["crashing", "0 passed, 1 failed, 0 skipped", "exit code 7"],
  ["exiting", "1 passed, 1 failed, 0 skipped", "cleaning up failed on purpose"],
  ["importing", "0 passed, 1 failed, 0 skipped", "not loadable on purpose"],
  ["empty", "0 passed, 1 failed, 0 skipped", "it holds no test"],
  ["hanging", "0 passed, 1 failed, 0 skipped", "timed out after 1500ms"],
] as const) {
  test(`a file that is ${name} fails the run`, async () => {
    const { code, text, last } = await runFixtures(name);
    assert.deepEqual({ code, last }, { code: 1, last: totals });
    assert.ok(text.includes(why), text);
  });
}

test("a run without a test fails", async () => {
  const { code, last } = await runFixtures("absent");
  assert.deepEqual({ code, last }, { code: 1, last: "0 passed, 0 failed, 0 skipped" });
  const both = await runFixtures("passing", "absent");
  assert.deepEqual([both.code, both.last], [1, "3 passed, 0 failed, 0 skipped"]);
});

test("with TEST_RERUN_FAILED=1 a file that failed is run once more, and named", async () => {
  const folder = mkdtempSync(join(tmpdir(), "sa-reporter-"));
  try {
    const variables = { TEST_RERUN_FAILED: "1", UNSTEADY_MARKER: join(folder, "marker") };
    const { code, text, last } = await runFixturesWith(variables, "passing", "unsteady");
    assert.deepEqual({ code, last }, { code: 0, last: "5 passed, 0 failed, 0 skipped" });
    assert.match(text, /Passed only when run alone:\n.*unsteady\.fixture\.ts\n/);
    const always = await runFixturesWith(variables, "failing");
    assert.deepEqual([always.code, always.last], [1, "1 passed, 4 failed, 0 skipped"]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
