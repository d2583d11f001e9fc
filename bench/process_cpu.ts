// Reads the CPU time of a running process, in any language.

import { readdirSync, readFileSync } from "node:fs";

/** Returns the CPU microseconds that the threads of a process have used so far, as the kernel counts them. */
export function cpuMicros(pid: number): number {
  let nanos = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    nanos += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]);
  }
  return nanos / 1000;
}
