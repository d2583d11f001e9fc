// The metrics of /metrics in Prometheus' text format: calls by method and code, their durations, and the process itself.

import { collectDefaultMetrics, Gauge, Registry, type MetricObjectWithValues, type MetricValue } from "prom-client";
import { registerCallMetrics } from "./call_metrics.ts";
import { registerConnectionMetrics } from "./connection_report.ts";
import type { Page } from "./pages.ts";
import type { Readiness } from "./readiness.ts";

/** What one process reports, as data. */
export type MetricsReport = readonly MetricObjectWithValues<MetricValue<string>>[];

export type MetricsSources = {
  readonly readiness: Readiness;
  readonly openWatchers: () => number;
  /** All causes for which the store can be unusable, and the present one. */
  readonly storeFaults: { readonly all: readonly string[]; readonly current: () => string | undefined };
  /** The reports of all workers, each metric combined by its aggregator: the page shows this text instead of this process's. */
  readonly aggregatedText: (() => Promise<string>) | undefined;
};

/** Creates the metrics of this process. */
export function createMetrics({ readiness, openWatchers, storeFaults, aggregatedText }: MetricsSources) {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const calls = registerCallMetrics(registry);
  const observeConnectionEnd = registerConnectionMetrics(registry);
  new Gauge({
    name: "session_authority_ready",
    help: "1 when the instance wants traffic.",
    registers,
    aggregator: "min",
    collect() {
      this.set(readiness.reasons().length === 0 ? 1 : 0);
    },
  });
  new Gauge({
    name: "session_authority_watchers",
    help: "Open WatchInvalidations streams.",
    registers,
    collect() {
      this.set(openWatchers());
    },
  });
  new Gauge({
    name: "session_authority_store_fault",
    help: "1 for the cause for which the store cannot be used at this moment.",
    labelNames: ["cause"],
    registers,
    aggregator: "max",
    collect() {
      for (const cause of storeFaults.all) this.set({ cause }, cause === storeFaults.current() ? 1 : 0);
    },
  });
  if (aggregatedText !== undefined) {
    new Gauge({ name: "session_authority_workers", help: "Workers that serve.", registers }).set(1);
  }

  const text = aggregatedText ?? (() => registry.metrics());
  return {
    calls,
    observeConnectionEnd,
    page: async (): Promise<Page> => ({ status: 200, contentType: registry.contentType, body: await text() }),
    report: (): Promise<MetricsReport> => registry.getMetricsAsJSON(),
  };
}
