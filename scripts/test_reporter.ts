// The reporter of `npm test`: a line for each file, failures in full, skips with their reasons, the counts last.

import { relative, resolve } from "node:path";
import type { TestEvent } from "node:test/reporters";
import { inspect } from "node:util";

export type Totals = { passed: number; failed: number; skipped: number };

type Result = { readonly name: string; readonly reason: string };
type FileResults = Totals & {
  readonly failures: Result[];
  readonly skips: Result[];
  /** What the file printed; shown when it fails. */
  output: string;
  /** Names of the tests and suites that are open, by nesting. */
  readonly path: string[];
  /** Nestings of which a test has ended and its parent has not. */
  readonly endedAt: Set<number>;
};

type Ended = Extract<TestEvent, { type: "test:pass" | "test:fail" }>;

/** How much of what a failed file printed is shown. */
const MAX_OUTPUT_CHARACTERS = 8_000;

export type Reporter = {
  /** What to print of one run; there may be several, one after the other. */
  report(source: AsyncIterable<TestEvent>): AsyncGenerator<string>;
  /** Forgets the files that failed, so that they can be run again; their paths. */
  takeFailed(): string[];
  /** What to print after the last run. */
  ending(): Generator<string>;
  /** The counts of tests, not of suites, up to now. */
  readonly totals: Totals;
};

/** Makes a reporter for node:test's run(). */
export function createReporter(cwd: string): Reporter {
  const totals: Totals = { passed: 0, failed: 0, skipped: 0 };
  const files = new Map<string, FileResults>();
  const done = new Set<string>();
  const taken = new Set<string>();
  let succeeded = true;

  function resultsOf(file: string): FileResults {
    let results = files.get(file);
    if (results === undefined) {
      results = { passed: 0, failed: 0, skipped: 0, failures: [], skips: [], output: "", path: [], endedAt: new Set() };
      files.set(file, results);
    }
    return results;
  }

  async function* report(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
    succeeded = true;
    for await (const event of source) {
      const { file } = event.data as { file?: string };
      if (event.type === "test:summary" && file === undefined) succeeded = event.data.success;
      if (file === undefined) continue;
      const results = resultsOf(file);
      if (event.type === "test:stdout" || event.type === "test:stderr") results.output += event.data.message;
      else if (event.type === "test:start") results.path[event.data.nesting] = event.data.name;
      else if (event.type === "test:pass" || event.type === "test:fail") count(results, event, file);
      else if (event.type === "test:summary") yield* finish(file, event.data.duration_ms);
    }
    // A file that did not live to its summary.
    for (const file of files.keys()) yield* finish(file, undefined);
    // The runner's own judgement, in case that this file counts wrongly.
    if (!succeeded && totals.failed === 0) {
      totals.failed = 1;
      yield "FAIL the runner saw a failure that was not counted\n";
    }
  }

  function takeFailed(): string[] {
    const failed = [...files].filter(([, results]) => results.failed > 0);
    for (const [file, results] of failed) {
      totals.passed -= results.passed;
      totals.failed -= results.failed;
      totals.skipped -= results.skipped;
      files.delete(file);
      done.delete(file);
      taken.add(file);
    }
    return failed.map(([file]) => file);
  }

  function* finish(file: string, durationMs: number | undefined): Generator<string> {
    if (done.has(file)) return;
    done.add(file);
    const results = resultsOf(file);
    const name = relative(cwd, file);
    if (results.passed + results.failed + results.skipped === 0) {
      results.failed = 1;
      results.failures.push({ name: "(the file)", reason: "it holds no test" });
    }
    totals.passed += results.passed;
    totals.failed += results.failed;
    totals.skipped += results.skipped;
    const counts = [`${results.passed} passed`];
    if (results.failed > 0) counts.push(`${results.failed} failed`);
    if (results.skipped > 0) counts.push(`${results.skipped} skipped`);
    const seconds = durationMs === undefined ? "" : ` in ${(durationMs / 1000).toFixed(1)} s`;
    yield `${results.failed > 0 ? "FAIL" : "ok  "} ${name}: ${counts.join(", ")}${seconds}\n`;
    for (const failure of results.failures) yield `\n  FAIL ${failure.name}\n${indent(failure.reason)}\n\n`;
    if (results.failed > 0 && results.output !== "") {
      yield `  what ${name} printed, at most its last ${MAX_OUTPUT_CHARACTERS} characters:\n`;
      yield `${indent(results.output.slice(-MAX_OUTPUT_CHARACTERS).trimEnd())}\n\n`;
    }
  }

  function* ending(): Generator<string> {
    const entries = [...files].map(([file, results]) => ({ name: relative(cwd, file), ...results }));
    const skips = entries.flatMap(({ name, skips: list }) =>
      list.map((skip) => `  ${name}: ${skip.name}: ${skip.reason}`),
    );
    const failures = entries.flatMap(({ name, failures: list }) => list.map((failure) => `  ${name}: ${failure.name}`));
    yield "\n";
    const unsteady = entries.filter((entry) => entry.failed === 0 && taken.has(resolve(cwd, entry.name)));
    if (unsteady.length > 0) {
      yield `Passed only when run alone:\n${unsteady.map((entry) => `  ${entry.name}`).join("\n")}\n\n`;
    }
    if (skips.length > 0) yield `Skipped:\n${skips.join("\n")}\n\n`;
    if (failures.length > 0) yield `Failed:\n${failures.join("\n")}\n\n`;
    yield `${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped\n`;
  }

  return { report, takeFailed, ending, totals };
}

function count(results: FileResults, event: Ended, file: string): void {
  const { data } = event;
  // The runner's own entry for a file: it ends badly when the process did, whatever its tests said.
  const isFile = data.nesting === 0 && data.name === file;
  const isParent = !isFile && (results.endedAt.delete(data.nesting + 1) || data.details.type === "suite");
  if (!isFile) results.endedAt.add(data.nesting);
  const name = isFile ? "(the file)" : [...results.path.slice(0, data.nesting), data.name].join(" > ");

  if (data.skip !== undefined) {
    results.skipped++;
    results.skips.push({
      name,
      reason: typeof data.skip === "string" && data.skip !== "" ? data.skip : "no reason given",
    });
  } else if (event.type === "test:fail") {
    const { error } = event.data.details;
    const { failureType, cause } = error as { failureType?: string; cause?: unknown };
    // A parent whose tests failed has no failure of its own, but one whose hooks failed has.
    if (isParent && failureType === "subtestsFailed") return;
    if (data.todo !== undefined) {
      results.skipped++;
      results.skips.push({ name, reason: `todo ${typeof data.todo === "string" ? data.todo : ""}`.trim() });
      return;
    }
    results.failed++;
    results.failures.push({ name, reason: isFile ? processFault(error) : inspect(cause ?? error, { depth: 5 }) });
  } else if (!isFile && !isParent) {
    results.passed++;
  }
}

function processFault(error: Error & { exitCode?: number | null; signal?: string | null }): string {
  const how = error.signal ? ` by ${error.signal}` : error.exitCode ? ` with exit code ${error.exitCode}` : "";
  return `its process failed${how}: ${error.message}`;
}

function indent(text: string): string {
  return text.replaceAll(/^/gm, "    ");
}
