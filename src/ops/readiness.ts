// Whether this instance wants traffic, which /readyz and grpc.health.v1 report.

import { jsonPage, type Page } from "./pages.ts";

export type Readiness = {
  /** The reasons why it is not ready; empty if it is. Short texts for operators, without secrets. */
  reasons(): readonly string[];
  /** Calls the listener after each change. Returns a function that unregisters it. */
  onChange(listener: () => void): () => void;
};

export type ReadinessSwitch = Readiness & {
  /** Makes the instance not ready until each reason given here has been cleared. */
  block(reason: string): void;
  clear(reason: string): void;
};

/** Starts ready, unless reasons are given. */
export function createReadiness(...initialReasons: string[]): ReadinessSwitch {
  const reasons = new Set(initialReasons);
  const listeners = new Set<() => void>();
  const notify = () => {
    for (const listener of [...listeners]) listener();
  };
  return {
    reasons: () => [...reasons],
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    block(reason) {
      if (reasons.has(reason)) return;
      reasons.add(reason);
      notify();
    },
    clear(reason) {
      if (reasons.delete(reason)) notify();
    },
  };
}

/** The page /readyz: 200 if the instance is ready, else 503 with the reasons. */
export function readinessPage(readiness: Readiness): Page {
  const reasons = readiness.reasons();
  return jsonPage(reasons.length === 0 ? 200 : 503, { ready: reasons.length === 0, reasons });
}
