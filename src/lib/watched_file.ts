// A file of settings that is read again whenever it changes, such as keys.

import { readFileSync, statSync } from "node:fs";
import type { Logger } from "pino";

export type WatchedFile<T> = {
  /** What the last good version of the file says. */
  current(): T;
  /** Stops watching. */
  close(): void;
};

type WatchedFileOptions<T> = {
  /** Throws an Error that names every fault. */
  readonly parse: (text: string) => T;
  readonly log: Logger;
  /** What the file holds, for the log: `API keys`. */
  readonly what: string;
  /** How often to look whether the file has changed. Default 2,000. */
  readonly pollIntervalMs?: number;
};

/** Reads the file now; throws when it cannot be read or is faulty. A later faulty version is logged and not used. */
export function watchParsedFile<T>(path: string, options: WatchedFileOptions<T>): WatchedFile<T> {
  const { parse, log, what, pollIntervalMs = 2_000 } = options;
  // Looked at before the file is read: a change while it is read is seen the next time.
  let version = versionOf(path);
  let value = read();

  function read(): T {
    try {
      return parse(readFileSync(path, "utf8"));
    } catch (error) {
      throw new Error(`${path}: ${(error as Error).message}`, { cause: error });
    }
  }

  function look(): void {
    const seen = versionOf(path);
    if (seen === version) return;
    version = seen;
    try {
      value = read();
      log.info(`${what} reloaded`);
    } catch (error) {
      // A slip of an editor must not lock everybody out.
      log.error({ error: (error as Error).message }, `${what} not reloaded: the ones before stay in force`);
    }
  }
  // Polled, for a file behind a symbolic link that is swapped (as mounted secrets are) raises no event of its own.
  const timer = setInterval(look, pollIntervalMs);
  timer.unref();
  return { current: () => value, close: () => clearInterval(timer) };
}

function versionOf(path: string): string {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join(" ");
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}
