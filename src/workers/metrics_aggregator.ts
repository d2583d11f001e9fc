// The metrics of all workers as one text, in which no counter goes back when a worker dies.

import type { Worker } from "node:cluster";
import { AggregatorRegistry } from "prom-client";
import type { MetricsReport } from "../ops/metrics.ts";

export function createMetricsAggregator() {
  const latest = new Map<Worker, MetricsReport>();
  // What workers that are gone had counted by their last reports.
  let ended: Promise<MetricsReport> = Promise.resolve([]);

  return {
    /** Combines the reports of the workers. A worker whose report is undefined counts with its last one. */
    async textOf(reports: ReadonlyMap<Worker, MetricsReport | undefined>): Promise<string> {
      for (const [worker, report] of reports) if (report !== undefined) latest.set(worker, report);
      const live = [...reports.keys()].flatMap((worker) => [latest.get(worker) ?? []]);
      return await AggregatorRegistry.aggregate([...live, await ended]).metrics();
    },
    /** Keeps what the worker has counted, because it is gone. */
    removeWorker(worker: Worker): void {
      const counted = latest.get(worker)?.filter(({ type }) => ["counter", "histogram"].includes(String(type)));
      latest.delete(worker);
      if (counted === undefined) return;
      ended = ended.then((before) => AggregatorRegistry.aggregate([before, counted]).getMetricsAsJSON());
    },
  };
}
