// What /metrics tells, in Prometheus' text format: calls by method and outcome, how long they took, and the process itself.

import { collectDefaultMetrics, Gauge, Registry, type MetricObjectWithValues, type MetricValue } from "prom-client";
import { registerCallMetrics } from "./call_metrics.ts";
import type { Page } from "../transport/http/request_listener.ts";
import type { Readiness } from "./readiness.ts";
import type { FinishedCall } from "../rpc/finished_call.ts";

/** What one process reports, as data. */
export type MetricsReport = readonly MetricObjectWithValues<MetricValue<string>>[];

export type Metrics = {
  /** Counts a call that has ended. */
  observe(call: FinishedCall): void;
  page(): Promise<Page>;
  report(): Promise<MetricsReport>;
};

/** With `totalText`, what the page says is that; it is made of the reports of all workers, each metric by its aggregator. */
export function createMetrics(
  readiness: Readiness,
  openWatchers: () => number,
  totalText?: () => Promise<string>,
): Metrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const observe = registerCallMetrics(registry);
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

  if (totalText !== undefined) {
    new Gauge({ name: "session_authority_workers", help: "Workers that serve.", registers }).set(1);
  }

  return {
    observe,
    async page() {
      return {
        status: 200,
        contentType: registry.contentType,
        body: await (totalText ?? registry.metrics.bind(registry))(),
      };
    },
    report: () => registry.getMetricsAsJSON(),
  };
}
