// A clock for a store's process that a test can step, by libfaketime (Debian: apt-get install faketime).

import { globSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const LIBRARY = globSync("/usr/lib/*/faketime/libfaketime.so.1")[0];
/** Its malloc takes the place of jemalloc, which asks for the time while libfaketime sets itself up. */
const LIBC = globSync("/lib/*/libc.so.6")[0];

export type SteppedClock = {
  /** The environment variables of the process. */
  readonly env: Readonly<Record<string, string>>;
  /** Sets the clock to so many seconds after the true time. */
  setOffset(seconds: number): void;
  remove(): void;
};

/** Returns why there can be no such clock, for the `skip` of a test; false if there can. */
export function steppedClockMissing(): string | false {
  return LIBRARY === undefined ? "libfaketime is not installed" : false;
}

export function createSteppedClock(): SteppedClock {
  const folder = mkdtempSync(join(tmpdir(), "sa-clock-"));
  const file = join(folder, "offset");

  function setOffset(seconds: number): void {
    // The process must never read half a file.
    writeFileSync(`${file}.new`, `+${seconds}`);
    renameSync(`${file}.new`, file);
  }

  setOffset(0);
  return {
    env: {
      ...{ LD_PRELOAD: `${LIBRARY} ${LIBC}`, FAKETIME_TIMESTAMP_FILE: file, FAKETIME_NO_CACHE: "1" },
      // As with a real step, the clock that timers run by goes on.
      ...{ DONT_FAKE_MONOTONIC: "1", FAKETIME_DONT_FAKE_MONOTONIC: "1" },
    },
    setOffset,
    remove: () => rmSync(folder, { recursive: true }),
  };
}
