// `npm test` counts the tests, gives the reason of every failure and skip, and fails when it should; its options work.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { createInterface } from "node:readline";
import { describe, test, type TestContext } from "node:test";
import type { TestEvent } from "node:test/reporters";
import { TestReporter } from "../../scripts/test_reporter.ts";
import { LONG_FILES, selectFiles } from "../../scripts/test_files.ts";
import { rounds } from "../helpers/rounds.ts";

type Outcome = { code: number | null; text: string; lastLine: string };

const fixture = (name: string) => `test/fixtures/reporter/${name}.fixture.ts`;

function startRunner(args: readonly string[], variables: Record<string, string> = {}) {
  const env = { ...process.env, TEST_TIMEOUT_MS: "60000", TEST_RERUN_FAILED: "0", ...variables };
  // With this variable, node:test takes the runner for a test file of this run and does nothing.
  delete (env as NodeJS.ProcessEnv)["NODE_TEST_CONTEXT"];
  return spawn(process.execPath, ["scripts/test.ts", ...args], { env, stdio: ["ignore", "pipe", "pipe"] });
}

async function runTests(args: readonly string[], variables?: Record<string, string>): Promise<Outcome> {
  const child = startRunner(args, variables);
  let text = "";
  child.stdout.on("data", (chunk) => (text += chunk));
  child.stderr.on("data", (chunk) => (text += chunk));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, text, lastLine: text.trimEnd().split("\n").at(-1)! };
}

const runFixtures = (...names: string[]) => runTests(names.map(fixture));

test("tests in suites and subtests are counted, their parents are not", async () => {
  const { code, lastLine } = await runFixtures("passing");
  assert.deepEqual({ code, lastLine }, { code: 0, lastLine: "3 passed, 0 failed, 0 skipped" });
});

test("a failure is reported in full and fails the run", async () => {
  const { code, text, lastLine } = await runFixtures("passing", "failing");
  assert.deepEqual({ code, lastLine }, { code: 1, lastLine: "4 passed, 4 failed, 0 skipped" });
  for (const part of ["sums > add up", "2 !== 3", "broken on purpose", "hook broken on purpose"]) {
    assert.ok(text.includes(part), part);
  }
  assert.ok(text.includes("printed by the failing file"));
});

test("skips are listed with their reasons and do not fail the run", async () => {
  const { code, text, lastLine } = await runFixtures("skipping");
  assert.deepEqual({ code, lastLine }, { code: 0, lastLine: "1 passed, 0 failed, 4 skipped" });
  for (const part of [
    "skipped by option: no store here",
    "skipped inside: found out late",
    "not finished: todo one day",
    "skipped suite: no suite here",
  ]) {
    assert.ok(text.includes(part), part);
  }
});

for (const [name, totals, reason] of [
  ["crashing", "0 passed, 1 failed, 0 skipped", "exit code 7"],
  ["exiting", "1 passed, 1 failed, 0 skipped", "cleaning up failed on purpose"],
  ["importing", "0 passed, 1 failed, 0 skipped", "not loadable on purpose"],
  ["empty", "0 passed, 1 failed, 0 skipped", "it contains no test"],
  ["hanging", "0 passed, 1 failed, 0 skipped", "timed out after 1500ms"],
] as const) {
  test(`a file that is ${name} fails the run`, async () => {
    const variables = name === "hanging" ? { TEST_TIMEOUT_MS: "1500" } : undefined;
    const { code, text, lastLine } = await runTests([fixture(name)], variables);
    assert.deepEqual({ code, lastLine }, { code: 1, lastLine: totals });
    assert.ok(text.includes(reason), text);
  });
}

test("a file fails if its summary does not arrive, because tests of it may be missing", async () => {
  const reporter = new TestReporter({ directory: process.cwd(), isFiltered: false });
  async function* events() {
    yield { type: "test:pass", data: { name: "one", nesting: 0, file: "/a.test.ts", details: {} } } as TestEvent;
  }
  let text = "";
  for await (const part of reporter.report(events())) text += part;
  assert.deepEqual(reporter.totals, { passed: 1, failed: 1, skipped: 0 });
  assert.ok(text.includes("its summary did not arrive"), text);
  assert.deepEqual(reporter.takeFailed(), ["/a.test.ts"]);
  assert.deepEqual(reporter.totals, { passed: 0, failed: 0, skipped: 0 });
});

test("the events of a file arrive even if its process ends as soon as it has written them", async () => {
  const { code, lastLine } = await runFixtures("talkative");
  assert.deepEqual({ code, lastLine }, { code: 0, lastLine: "2000 passed, 0 failed, 0 skipped" });
});

test("a run without a test fails", async () => {
  const { code, lastLine } = await runFixtures("absent");
  assert.deepEqual({ code, lastLine }, { code: 1, lastLine: "0 passed, 0 failed, 0 skipped" });
  const both = await runFixtures("passing", "absent");
  assert.deepEqual([both.code, both.lastLine], [1, "3 passed, 0 failed, 0 skipped"]);
});

test("TEST_RERUN_FAILED=1 runs a failed file once more and names it", async (t) => {
  const variables = { TEST_RERUN_FAILED: "1", UNSTEADY_MARKER: join(temporaryDirectory(t), "marker") };
  const { code, text, lastLine } = await runTests([fixture("passing"), fixture("unsteady")], variables);
  assert.deepEqual({ code, lastLine }, { code: 0, lastLine: "5 passed, 0 failed, 0 skipped" });
  assert.match(text, /Passed only when run alone:\n.*unsteady\.fixture\.ts\n/);
  const always = await runTests([fixture("failing")], variables);
  assert.deepEqual([always.code, always.lastLine], [1, "1 passed, 4 failed, 0 skipped"]);
});

describe("options", () => {
  test("--test-name-pattern runs the tests that match, in all files and in suites", async () => {
    const files = [fixture("passing"), fixture("failing")];
    const { code, text, lastLine } = await runTests([
      ...files,
      "--test-name-pattern=nested",
      "--test-name-pattern=^plain$",
    ]);
    assert.deepEqual({ code, lastLine }, { code: 0, lastLine: "2 passed, 0 failed, 0 skipped" });
    assert.ok(!text.includes("failing.fixture.ts"), "a file without a matching test is reported");
  });

  test("--test-skip-pattern leaves out the tests that match", async () => {
    const { code, lastLine } = await runTests([fixture("passing"), "--test-skip-pattern", "nested"]);
    assert.deepEqual({ code, lastLine }, { code: 0, lastLine: "2 passed, 0 failed, 0 skipped" });
  });

  test("a pattern that matches no test fails the run", async () => {
    const { code, text, lastLine } = await runTests([fixture("passing"), "--test-name-pattern=nowhere"]);
    assert.deepEqual({ code, lastLine }, { code: 1, lastLine: "0 passed, 0 failed, 0 skipped" });
    assert.match(text, /^No test matches\.$/m);
  });

  test("--test-only runs the tests that are marked with it", async () => {
    const { code, lastLine } = await runTests([fixture("marked"), "--test-only"]);
    assert.deepEqual({ code, lastLine }, { code: 0, lastLine: "1 passed, 0 failed, 0 skipped" });
  });

  test("--coverage prints a line for each file of src/ and no other", async () => {
    const { code, text, lastLine } = await runTests([fixture("covering"), "--coverage"]);
    assert.deepEqual({ code, lastLine }, { code: 0, lastLine: "1 passed, 0 failed, 0 skipped" });
    assert.match(text, /^\s*merge_patch\.ts +\| +[\d.]+ \| +[\d.]+ \| +[\d.]+ \|/m);
    assert.doesNotMatch(text, /covering\.fixture\.ts +\|/);
  });

  test("--watch runs a file again when something that it imports changes", async (t) => {
    const directory = temporaryDirectory(t);
    const dependency = join(directory, "sum.ts");
    const file = join(directory, "sum.test.ts");
    writeFileSync(dependency, "export const sum = 2;\n");
    writeFileSync(
      file,
      `import assert from "node:assert/strict";
       import { test } from "node:test";
       import { sum } from "./sum.ts";
       test("adds up", () => assert.equal(sum, 2));`,
    );
    const child = startRunner([file, "--watch"]);
    t.after(() => child.kill());
    const counts: string[] = [];
    for await (const line of createInterface({ input: child.stdout })) {
      if (!/^\d+ passed/.test(line)) continue;
      counts.push(line);
      if (counts.length === 1) writeFileSync(dependency, "export const sum = 3;\n");
      if (counts.length === 2) break;
    }
    assert.deepEqual(counts, ["1 passed, 0 failed, 0 skipped", "0 passed, 1 failed, 0 skipped"]);
  });

  for (const [args, message] of [
    [["--test-nam-pattern=x"], "Unknown option '--test-nam-pattern'"],
    [["--watch=yes"], "Option '--watch' does not take an argument"],
    [["--test-name-pattern=("], "Invalid regular expression: /(/"],
  ] as const) {
    test(`${args.join(" ")} is refused with the usage, and nothing runs`, async () => {
      const { code, text } = await runTests([fixture("passing"), ...args]);
      assert.equal(code, 2);
      assert.ok(text.startsWith(message), text);
      assert.match(text, /^npm test -- /m);
      assert.doesNotMatch(text, /passed/);
    });
  }
});

describe("the selection of files", () => {
  const select = (patterns: string[], all = false) =>
    selectFiles(patterns, all).files.map((file) => relative("", file));

  test("npm test leaves out what only npm run test:all runs, and names it", () => {
    const [quick, all] = [selectFiles([], false), selectFiles([], true)];
    const onlyInAll = LONG_FILES.filter((long) => long.onlyInAll).map(({ file }) => file);
    assert.deepEqual(quick.leftOut, onlyInAll);
    assert.deepEqual(all.leftOut, []);
    assert.deepEqual(
      all.files.map((file) => relative("", file)).filter((file) => !quick.files.some((path) => path.endsWith(file))),
      onlyInAll,
    );
  });

  test("the longest files start first, the others by name", () => {
    const files = select([], true);
    const long = LONG_FILES.toSorted((a, b) => b.seconds - a.seconds).map(({ file }) => file);
    assert.deepEqual(files.slice(0, long.length), long);
    assert.deepEqual(files.slice(long.length), files.slice(long.length).toSorted());
  });

  test("a file is a path, a directory or a glob, is never there twice, and is not left out if it is named", () => {
    const contract = select(["test/contract"]);
    assert.ok(contract.includes("test/contract/watch.test.ts") && contract.includes("test/contract/workers.test.ts"));
    assert.deepEqual(select(["test/contract/*.test.ts", "./test/contract/watch.test.ts"]), contract);
    assert.deepEqual(select(["test/fault/workers.test.ts"]), ["test/fault/workers.test.ts"]);
    assert.deepEqual(selectFiles(["test/absent", "test/helpers"], false).unmatched, ["test/absent", "test/helpers"]);
  });

  test("every file in the table of long files exists", () => {
    for (const { file } of LONG_FILES) assert.ok(existsSync(file), file);
  });
});

test("the rounds of a test are few, all with TEST_ALL=1, and its variable's number if that is set", () => {
  const before = process.env["TEST_ALL"];
  const of = (testAll: string, variable: string | undefined) => {
    process.env["TEST_ALL"] = testAll;
    if (variable === undefined) delete process.env["SOME_ROUNDS"];
    else process.env["SOME_ROUNDS"] = variable;
    return rounds({ quick: 5, all: 100, variable: "SOME_ROUNDS" });
  };
  try {
    assert.deepEqual([of("", undefined), of("1", undefined), of("", "7"), of("1", "7")], [5, 100, 7, 7]);
    for (const wrong of ["", "0", "-1", "many", "1.5"]) assert.throws(() => of("", wrong), /SOME_ROUNDS must be/);
  } finally {
    if (before === undefined) delete process.env["TEST_ALL"];
    else process.env["TEST_ALL"] = before;
    delete process.env["SOME_ROUNDS"];
  }
});

function temporaryDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "sa-reporter-"));
  t.after(() => rmSync(directory, { recursive: true }));
  return directory;
}
