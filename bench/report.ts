// What the benches print: medians, percentiles, and the machine they ran on.

import { cpus } from "node:os";

export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}

/** NaN of nothing. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}

export function machine(): string {
  const [{ model } = { model: "unknown" }, { length }] = [cpus()[0], cpus()];
  return `${length} x ${model}, Node ${process.versions.node}`;
}
