// Turns the events of test runs into text: a line for each file, failures in full, skips with their reasons, the counts.

import { relative, resolve } from "node:path";
import { spec, type TestEvent } from "node:test/reporters";
import { inspect, stripVTControlCharacters } from "node:util";

type Totals = { passed: number; failed: number; skipped: number };

type Result = { readonly name: string; readonly reason: string };
type FileResults = Totals & {
  readonly failures: Result[];
  readonly skips: Result[];
  /** What the file printed; reported if it fails. */
  output: string;
  /** The names of the open tests and suites, by nesting. */
  readonly openNames: string[];
  /** The nestings at which a test has ended whose parent has not. */
  readonly endedAt: Set<number>;
};

type EndEvent = Extract<TestEvent, { type: "test:pass" | "test:fail" }>;

/** How much of the output of a failed file is reported. */
const MAX_OUTPUT_CHARACTERS = 8_000;

/** Reports one or more runs of node:test's run(), one after the other. It counts tests, not suites. */
export class TestReporter {
  readonly #directory: string;
  readonly #isFiltered: boolean;
  readonly #files = new Map<string, FileResults>();
  readonly #finished = new Set<string>();
  readonly #rerun = new Set<string>();
  #totals: Totals = { passed: 0, failed: 0, skipped: 0 };

  /**
   * Paths are printed relative to `directory`. `isFiltered` is true if the run selects tests by name, so that a file may
   * have none of them; otherwise a file without a test fails.
   */
  constructor({ directory, isFiltered }: { directory: string; isFiltered: boolean }) {
    this.#directory = directory;
    this.#isFiltered = isFiltered;
  }

  /** The counts of the tests of all runs so far. */
  get totals(): Readonly<Totals> {
    return this.#totals;
  }

  /** Yields the text for the events of one run, as they come. */
  async *report(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
    let runnerSucceeded = true;
    for await (const event of events) {
      if (event.type === "test:coverage") yield* coverageText(event);
      if (event.type === "test:watch:drained") yield* this.#endWatchRound();
      const { file } = (event.data ?? {}) as { file?: string };
      if (event.type === "test:summary" && file === undefined) runnerSucceeded = event.data.success;
      if (file === undefined) continue;
      const results = this.#resultsOf(file);
      if (event.type === "test:stdout" || event.type === "test:stderr") results.output += event.data.message;
      else if (event.type === "test:start") results.openNames[event.data.nesting] = event.data.name;
      else if (event.type === "test:pass" || event.type === "test:fail") count(results, event, file);
      else if (event.type === "test:summary") yield* this.#finish(file, event.data.duration_ms);
    }
    yield* this.#finishAll();
    if (!runnerSucceeded && this.#totals.failed === 0) {
      this.#totals.failed = 1;
      yield "FAIL the runner reported a failure that is not in these counts\n";
    }
  }

  /** Forgets the files that failed, so that a further run() can run them again. Returns their paths. */
  takeFailed(): string[] {
    const failed = [...this.#files].filter(([, results]) => results.failed > 0);
    for (const [file, results] of failed) {
      this.#totals.passed -= results.passed;
      this.#totals.failed -= results.failed;
      this.#totals.skipped -= results.skipped;
      this.#files.delete(file);
      this.#finished.delete(file);
      this.#rerun.add(file);
    }
    return failed.map(([file]) => file);
  }

  /** Yields the text after the last run: what was skipped and why, what failed, and the counts as the last line. */
  *summary(): Generator<string> {
    const entries = [...this.#files].map(([file, results]) => ({ name: relative(this.#directory, file), ...results }));
    const skips = entries.flatMap(({ name, skips: list }) =>
      list.map((skip) => `  ${name}: ${skip.name}: ${skip.reason}`),
    );
    const failures = entries.flatMap(({ name, failures: list }) => list.map((failure) => `  ${name}: ${failure.name}`));
    yield "\n";
    const unsteady = entries.filter(
      ({ name, failed }) => failed === 0 && this.#rerun.has(resolve(this.#directory, name)),
    );
    if (unsteady.length > 0) {
      yield `Passed only when run alone:\n${unsteady.map((entry) => `  ${entry.name}`).join("\n")}\n\n`;
    }
    if (skips.length > 0) yield `Skipped:\n${skips.join("\n")}\n\n`;
    if (failures.length > 0) yield `Failed:\n${failures.join("\n")}\n\n`;
    const { passed, failed, skipped } = this.#totals;
    if (this.#isFiltered && passed + failed + skipped === 0) yield "No test matches.\n\n";
    yield `${passed} passed, ${failed} failed, ${skipped} skipped\n`;
  }

  /** Reports what has run since the files changed, and starts counting anew. */
  *#endWatchRound(): Generator<string> {
    yield* this.#finishAll();
    yield* this.summary();
    this.#files.clear();
    this.#finished.clear();
    this.#totals = { passed: 0, failed: 0, skipped: 0 };
  }

  /** Finishes the files whose summary has not arrived. Their counts may lack tests, so such a file fails. */
  *#finishAll(): Generator<string> {
    for (const [file, results] of this.#files) {
      if (!this.#finished.has(file) && results.passed + results.skipped > 0) {
        results.failed++;
        results.failures.push({ name: "(the file)", reason: "its summary did not arrive: tests may be missing" });
      }
      yield* this.#finish(file, undefined);
    }
  }

  *#finish(file: string, durationMs: number | undefined): Generator<string> {
    if (this.#finished.has(file)) return;
    this.#finished.add(file);
    const results = this.#resultsOf(file);
    const name = relative(this.#directory, file);
    if (results.passed + results.failed + results.skipped === 0) {
      if (this.#isFiltered) return;
      results.failed = 1;
      results.failures.push({ name: "(the file)", reason: "it contains no test" });
    }
    this.#totals.passed += results.passed;
    this.#totals.failed += results.failed;
    this.#totals.skipped += results.skipped;
    const counts = [`${results.passed} passed`];
    if (results.failed > 0) counts.push(`${results.failed} failed`);
    if (results.skipped > 0) counts.push(`${results.skipped} skipped`);
    const seconds = durationMs === undefined ? "" : ` in ${(durationMs / 1000).toFixed(1)} s`;
    yield `${results.failed > 0 ? "FAIL" : "ok  "} ${name}: ${counts.join(", ")}${seconds}\n`;
    for (const failure of results.failures) yield `\n  FAIL ${failure.name}\n${indent(failure.reason)}\n\n`;
    if (results.failed > 0 && results.output !== "") {
      yield `  The output of ${name}, at most its last ${MAX_OUTPUT_CHARACTERS} characters:\n`;
      yield `${indent(results.output.slice(-MAX_OUTPUT_CHARACTERS).trimEnd())}\n\n`;
    }
  }

  #resultsOf(file: string): FileResults {
    let results = this.#files.get(file);
    if (results === undefined) {
      const counts = { passed: 0, failed: 0, skipped: 0 };
      results = { ...counts, failures: [], skips: [], output: "", openNames: [], endedAt: new Set() };
      this.#files.set(file, results);
    }
    return results;
  }
}

/** Adds the end of a test to the results of its file. */
function count(results: FileResults, event: EndEvent, file: string): void {
  const { data } = event;
  // The runner's own entry for a file fails if the process failed, even if all its tests passed.
  const isFile = data.nesting === 0 && data.name === file;
  const isParent = !isFile && (results.endedAt.delete(data.nesting + 1) || data.details.type === "suite");
  if (!isFile) results.endedAt.add(data.nesting);
  const name = isFile ? "(the file)" : [...results.openNames.slice(0, data.nesting), data.name].join(" > ");

  if (data.skip !== undefined) {
    results.skipped++;
    results.skips.push({
      name,
      reason: typeof data.skip === "string" && data.skip !== "" ? data.skip : "no reason given",
    });
  } else if (event.type === "test:fail") {
    const { error } = event.data.details;
    const { failureType, cause } = error as { failureType?: string; cause?: unknown };
    // A parent whose tests failed has not failed itself; one whose hooks failed has.
    if (isParent && failureType === "subtestsFailed") return;
    if (data.todo !== undefined) {
      results.skipped++;
      results.skips.push({ name, reason: `todo ${typeof data.todo === "string" ? data.todo : ""}`.trim() });
      return;
    }
    results.failed++;
    results.failures.push({ name, reason: isFile ? processFailure(error) : inspect(cause ?? error, { depth: 5 }) });
  } else if (!isFile && !isParent) {
    results.passed++;
  }
}

function processFailure(error: Error & { exitCode?: number | null; signal?: string | null }): string {
  const how = error.signal ? ` by ${error.signal}` : error.exitCode ? ` with exit code ${error.exitCode}` : "";
  return `its process failed${how}: ${error.message}`;
}

/** Formats the coverage as Node's own reporter does: a line for each file, with the lines that no test reached. */
async function* coverageText(event: TestEvent): AsyncGenerator<string> {
  const formatter = new spec();
  formatter.end(event);
  for await (const chunk of formatter) yield stripVTControlCharacters(String(chunk)).replaceAll(/^ℹ /gm, "");
}

function indent(text: string): string {
  return text.replaceAll(/^/gm, "    ");
}
