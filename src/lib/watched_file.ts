// A file, for example of keys, that is parsed again whenever it changes.

import { readFileSync, statSync } from "node:fs";
import type { Logger } from "pino";

type WatchedFileOptions<T> = {
  /** @throws Error that names every fault. */
  readonly parse: (text: string) => T;
  readonly log: Logger;
  /** The name of the file's content in the log: `API keys`. */
  readonly what: string;
  /** How often to check whether the file has changed. Default 1,000. */
  readonly pollIntervalMs?: number | undefined;
  /** Is called after the value has been replaced. */
  readonly onReload?: () => void;
};

/** Reads the file at once. Later versions replace the value; a faulty one is logged and ignored. @throws Error for the first. */
export function watchParsedFile<T>(path: string, options: WatchedFileOptions<T>) {
  const { parse, log, what, pollIntervalMs = 1_000, onReload } = options;
  // Taken before the file is read, so that a change during the read is noticed at the next check.
  let version = versionOf(path);
  let value = read();

  function read(): T {
    try {
      return parse(readFileSync(path, "utf8"));
    } catch (error) {
      throw new Error(`${path}: ${(error as Error).message}`, { cause: error });
    }
  }

  function check(): void {
    const current = versionOf(path);
    if (current === version) return;
    version = current;
    try {
      value = read();
      log.info(`${what} reloaded`);
    } catch (error) {
      // A mistake in the file must not lock out all callers.
      log.error({ error: (error as Error).message }, `${what} not reloaded; the previous ones stay in use`);
      return;
    }
    onReload?.();
  }
  // Polled, because a file behind a symbolic link that is swapped (as mounted secrets are) emits no event.
  const timer = setInterval(check, pollIntervalMs).unref();
  return {
    /** Returns the value of the last valid version of the file. */
    current: (): T => value,
    /** Stops watching. */
    close: () => clearInterval(timer),
  };
}

function versionOf(path: string): string {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join(" ");
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}
