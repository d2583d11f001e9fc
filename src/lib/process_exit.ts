// How a child process ended, as text for logs and errors.

import type { ChildProcess } from "node:child_process";

/** Resolves when the process has exited to how it did: `with code 1`, `by SIGKILL`, or `before it began` and why. */
export function exitOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    child.on("exit", (code, signal) => resolve(signal === null ? `with code ${code}` : `by ${signal}`));
    child.on("error", (error) => {
      // A process that was never created has no "exit" event.
      if (child.pid === undefined) resolve(`before it began: ${error.message}`);
    });
  });
}
