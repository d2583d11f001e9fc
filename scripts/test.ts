// `npm test` and its relatives: runs test files two at a time and prints one line for each, the counts in the last line.

import { run } from "node:test";
import { parseArgs } from "node:util";
import { selectFiles } from "./test_files.ts";
import { TestReporter } from "./test_reporter.ts";

const USAGE = `npm test -- [OPTION…] [FILE…]

FILE is a test file, a directory or a glob. Without one, every file of test/ runs, except the few that only
"npm run test:all" runs.

  --all                       run every file, and all rounds of the tests that repeat something (npm run test:all)
  --test-name-pattern=REGEXP  run only tests whose name matches; may be repeated
  --test-skip-pattern=REGEXP  run only tests whose name does not match; may be repeated
  --test-only                 run only tests that have the option "only"
  --watch                     stay, and run the affected files again when a file changes; Ctrl-C ends it
  --coverage                  print the coverage of each file of src/ (npm run test:coverage)
  --help                      print this text

Environment variables:
  TEST_TIMEOUT_MS=MS    how long a test may take before it fails; 600000 by default
  TEST_RERUN_FAILED=1   run files that failed once more, alone, since tests may time out on a busy machine
  TEST_REDIS_SERVER=FILE
                        the program that tests start as their store; redis-server of the PATH by default
  RACE_ROUNDS, PROPERTY_RUNS, EVICTION_RUNS, WATCH_HISTORIES, FAILOVER_ROUNDS,
                        LINEARIZABLE_HISTORIES
                        the rounds of one kind of test; see test/helpers/rounds.ts

The exit code is 0 if at least one test ran and none failed, 2 if the arguments are wrong, and 1 otherwise.
`;

/** A test that hangs fails, instead of stopping the whole run. */
const DEFAULT_TIMEOUT_MS = 15 * 60_000;
const LANES = 2;

function parseArguments() {
  return parseArgs({
    allowPositionals: true,
    options: {
      all: { type: "boolean", default: process.env["TEST_ALL"] === "1" },
      "test-name-pattern": { type: "string", multiple: true, default: [] },
      "test-skip-pattern": { type: "string", multiple: true, default: [] },
      "test-only": { type: "boolean", default: false },
      watch: { type: "boolean", default: false },
      coverage: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
}

type Options = ReturnType<typeof parseArguments>["values"];

process.exitCode = await main();

async function main(): Promise<number> {
  let parsed: ReturnType<typeof parseArguments>;
  try {
    parsed = parseArguments();
    for (const pattern of [...parsed.values["test-name-pattern"], ...parsed.values["test-skip-pattern"]])
      RegExp(pattern);
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}`);
    return 2;
  }
  const { values: options, positionals: patterns } = parsed;
  if (options.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  // The test processes inherit it; test/helpers/rounds.ts reads it.
  if (options.all) process.env["TEST_ALL"] = "1";

  const { files, leftOut, unmatched } = selectFiles(patterns, options.all);
  for (const pattern of unmatched) process.stderr.write(`no such test file: ${pattern}\n`);
  const isFiltered =
    options["test-only"] || options["test-name-pattern"].length + options["test-skip-pattern"].length > 0;
  const reporter = new TestReporter({ directory: process.cwd(), isFiltered });
  if (files.length > 0) {
    await runFiles(reporter, files, options, LANES);
    const failed = process.env["TEST_RERUN_FAILED"] === "1" ? reporter.takeFailed() : [];
    if (failed.length > 0) await runFiles(reporter, failed, { ...options, coverage: false }, 1);
  }
  if (leftOut.length > 0) {
    process.stdout.write(`\nOnly npm run test:all runs:\n${leftOut.map((file) => `  ${file}`).join("\n")}\n`);
  }
  for (const text of reporter.summary()) process.stdout.write(text);
  const { passed, failed, skipped } = reporter.totals;
  return failed > 0 || passed + skipped === 0 || unmatched.length > 0 ? 1 : 0;
}

async function runFiles(
  reporter: TestReporter,
  files: readonly string[],
  options: Options,
  concurrency: number,
): Promise<void> {
  const events = run({
    files,
    concurrency,
    timeout: Number(process.env["TEST_TIMEOUT_MS"] ?? DEFAULT_TIMEOUT_MS),
    // Handles that a failed test left open must not keep its process, and with it the whole run, alive.
    forceExit: !options.watch,
    execArgv: ["--import", new URL("test_process.ts", import.meta.url).href],
    watch: options.watch,
    only: options["test-only"],
    testNamePatterns: options["test-name-pattern"],
    testSkipPatterns: options["test-skip-pattern"],
    coverage: options.coverage,
    coverageIncludeGlobs: ["src/**"],
  });
  for await (const text of reporter.report(events)) process.stdout.write(text);
}
