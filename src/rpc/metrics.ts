// What /metrics tells, in Prometheus' text format: calls by method and outcome, how long they took, and the process itself.

import { Code } from "@connectrpc/connect";
import {
  collectDefaultMetrics,
  Counter,
  Gauge,
  Histogram,
  Registry,
  type MetricObjectWithValues,
  type MetricValue,
} from "prom-client";
import type { Page } from "./http_listener.ts";
import type { Readiness } from "./readiness.ts";
import type { FinishedCall } from "./request_log.ts";

/** What one process reports, as data. */
export type MetricsReport = readonly MetricObjectWithValues<MetricValue<string>>[];

export type Metrics = {
  /** Counts a call that has ended. */
  observe(call: FinishedCall): void;
  page(): Promise<Page>;
  report(): Promise<MetricsReport>;
};

const DURATION_BUCKETS_S = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];

/** With `totalText`, what the page says is that; it is made of the reports of all workers, each metric by its aggregator. */
export function createMetrics(
  readiness: Readiness,
  openWatchers: () => number,
  totalText?: () => Promise<string>,
): Metrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const calls = new Counter({
    name: "session_authority_calls_total",
    help: "Calls that have ended, by method and gRPC code.",
    labelNames: ["method", "code"],
    registers,
  });
  const durations = new Histogram({
    name: "session_authority_call_duration_seconds",
    help: "How long calls took, by method; of a stream, how long it was open.",
    labelNames: ["method"],
    buckets: DURATION_BUCKETS_S,
    registers,
  });
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
    observe({ method, durationMs, failure }) {
      const name = method.slice(method.indexOf("/") + 1);
      calls.inc({ method: name, code: failure === undefined ? "OK" : Code[failure.code] });
      durations.observe({ method: name }, durationMs / 1000);
    },
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
