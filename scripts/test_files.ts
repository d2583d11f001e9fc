// Selects the files of a test run, and their order.

import { globSync, statSync } from "node:fs";
import { join, relative, resolve } from "node:path";

type LongFile = {
  readonly file: string;
  /** In `npm run test:all`, on 2 cores. */
  readonly seconds: number;
  /** True if `npm test` leaves the file out. The others run there with fewer rounds, or are short enough. */
  readonly onlyInAll?: boolean;
};

/** The files that take longest. They start first, longest first, so that both lanes of a run end at about the same time. */
export const LONG_FILES: readonly LongFile[] = [
  { file: "test/project/client_generation.test.ts", seconds: 250, onlyInAll: true },
  { file: "test/race/all_variants.test.ts", seconds: 188 },
  { file: "test/contract/tenant_index.test.ts", seconds: 117 },
  { file: "test/fault/failover.test.ts", seconds: 115, onlyInAll: true },
  { file: "test/fault/linearizability.test.ts", seconds: 90, onlyInAll: true },
  { file: "test/race/simple_and_hash_sessions.test.ts", seconds: 80 },
  { file: "test/fault/store_acl.test.ts", seconds: 66, onlyInAll: true },
  { file: "test/race/dead_credentials.test.ts", seconds: 60 },
  { file: "test/property/sessions.test.ts", seconds: 58 },
  { file: "test/project/examples.test.ts", seconds: 54, onlyInAll: true },
  { file: "test/race/retries_and_limits.test.ts", seconds: 52 },
  { file: "test/watch/histories.test.ts", seconds: 51 },
  { file: "test/contract/regeneration_login.test.ts", seconds: 40 },
  { file: "test/contract/watch_with_lease.test.ts", seconds: 40 },
  { file: "test/contract/workers.test.ts", seconds: 39, onlyInAll: true },
  { file: "test/fault/workers.test.ts", seconds: 35, onlyInAll: true },
  { file: "test/race/end_sessions.test.ts", seconds: 33 },
  { file: "test/fault/sweep.test.ts", seconds: 32, onlyInAll: true },
  { file: "test/contract/cli.test.ts", seconds: 30 },
  { file: "test/fault/staleness.test.ts", seconds: 30, onlyInAll: true },
  { file: "test/fault/live_primary.test.ts", seconds: 25 },
  { file: "test/fault/slot_migration.test.ts", seconds: 23, onlyInAll: true },
  { file: "test/contract/watch.test.ts", seconds: 21 },
  { file: "test/contract/session_updates.test.ts", seconds: 20 },
  { file: "test/property/eviction_order.test.ts", seconds: 19 },
  { file: "test/contract/cached_client.test.ts", seconds: 18 },
  { file: "test/fault/topologies.test.ts", seconds: 18 },
  { file: "test/watch/load.test.ts", seconds: 16, onlyInAll: true },
  { file: "test/fault/clock_step.test.ts", seconds: 15 },
  { file: "test/project/bench_peers.test.ts", seconds: 12, onlyInAll: true },
  { file: "test/project/package.test.ts", seconds: 12, onlyInAll: true },
  { file: "test/property/tokens.test.ts", seconds: 11 },
];

const ALL_TESTS = "test/**/*.test.ts";

type Selection = {
  /** Absolute paths, in the order in which they start. */
  readonly files: string[];
  /** Relative paths of the files that only `npm run test:all` runs. */
  readonly leftOut: string[];
  /** The patterns that match no file. */
  readonly unmatched: string[];
};

/**
 * Selects the files that match the patterns: files, directories or globs, relative to the current directory. Without a
 * pattern, selects every test file, except those that only `npm run test:all` runs unless `all` is true.
 */
export function selectFiles(patterns: readonly string[], all: boolean): Selection {
  const matches = new Map(patterns.map((pattern) => [pattern, filesOf(pattern)]));
  const unmatched = patterns.filter((pattern) => matches.get(pattern)!.length === 0);
  const chosen = patterns.length > 0 ? [...new Set([...matches.values()].flat())] : globSync(ALL_TESTS);
  const leftOut = LONG_FILES.filter((long) => long.onlyInAll && !all && patterns.length === 0).map(({ file }) => file);
  const kept = chosen.filter((file) => !leftOut.includes(file));
  return { files: longestFirst(kept).map((file) => resolve(file)), leftOut, unmatched };
}

function filesOf(pattern: string): string[] {
  const isDirectory = statSync(pattern, { throwIfNoEntry: false })?.isDirectory() ?? false;
  const files = globSync(isDirectory ? join(pattern, "**/*.test.ts") : pattern);
  // The same file by two spellings is one.
  return files.map((file) => relative("", resolve(file)));
}

function longestFirst(files: readonly string[]): string[] {
  const secondsOf = new Map(LONG_FILES.map(({ file, seconds }) => [file, seconds]));
  return files.toSorted().toSorted((a, b) => (secondsOf.get(b) ?? 0) - (secondsOf.get(a) ?? 0));
}
