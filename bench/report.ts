// Medians and percentiles for the output of the benches, and the description of the machine.

import { cpus } from "node:os";

/** Returns NaN if there are no values. */
export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}

/** Returns the value below which `share` of the values lie (0.5 is the median), or NaN if there are no values. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}

/** Returns the processors and the version of Node, in one line. */
export function machine(): string {
  const [{ model } = { model: "unknown" }, { length }] = [cpus()[0], cpus()];
  return `${length} x ${model}, Node ${process.versions.node}`;
}
