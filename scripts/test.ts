// `npm test`: runs test/**/*.test.ts, or the files it is given, two at a time; exit code 1 when any failed or none ran.
// With TEST_RERUN_FAILED=1, files that failed are run once more, alone: on a busy machine time runs out for some.

import { globSync } from "node:fs";
import { resolve } from "node:path";
import { run } from "node:test";
import { createReporter } from "./test_reporter.ts";

/** A test that hangs fails, instead of stopping everything. */
const TEST_TIMEOUT_MS = 10 * 60_000;

const given = process.argv.slice(2);
const patterns = given.length > 0 ? given : ["test/**/*.test.ts"];
const unmatched = patterns.filter((pattern) => globSync(pattern).length === 0);
for (const pattern of unmatched) process.stderr.write(`no such test file: ${pattern}\n`);

const files = [...new Set(patterns.flatMap((pattern) => globSync(pattern)))].toSorted().map((file) => resolve(file));
const { report, takeFailed, ending, totals } = createReporter(process.cwd());
const timeout = Number(process.env["TEST_TIMEOUT_MS"] ?? TEST_TIMEOUT_MS);

async function runFiles(paths: string[], concurrency: number): Promise<void> {
  // forceExit: what a failed test left open must not keep its process, and so the whole run, alive.
  const stream = run({ files: paths, concurrency, timeout, forceExit: true });
  for await (const text of report(stream)) process.stdout.write(text);
}

if (files.length > 0) {
  await runFiles(files, 2);
  const failed = process.env["TEST_RERUN_FAILED"] === "1" ? takeFailed() : [];
  if (failed.length > 0) await runFiles(failed, 1);
}
for (const text of ending()) process.stdout.write(text);
process.exitCode = totals.failed > 0 || totals.passed + totals.skipped === 0 || unmatched.length > 0 ? 1 : 0;
