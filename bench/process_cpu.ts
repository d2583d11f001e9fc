// The CPU time of a running process, whatever language it is written in.

import { readdirSync, readFileSync } from "node:fs";

/** CPU microseconds that the threads of a process have used so far, by the kernel's count in nanoseconds. */
export function cpuMicros(pid: number): number {
  let nanos = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    nanos += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]);
  }
  return nanos / 1000;
}
