// Whether this instance wants traffic, which /readyz and grpc.health.v1 report.

import { EventEmitter } from "node:events";
import { jsonPage, type Page } from "./pages.ts";

export type Readiness = {
  /** The reasons why it is not ready; empty if it is. Short texts for operators, without secrets. */
  reasons(): readonly string[];
  /** Emits "change" after each change. */
  readonly changes: EventEmitter;
};

export type ReadinessSwitch = Readiness & {
  /** Makes the instance not ready until each reason given here has been cleared. */
  block(reason: string): void;
  clear(reason: string): void;
};

/** Starts ready. */
export function createReadiness(): ReadinessSwitch {
  const reasons = new Set<string>();
  // Each open health watch listens.
  const changes = new EventEmitter().setMaxListeners(0);
  return {
    reasons: () => [...reasons],
    changes,
    block(reason) {
      if (reasons.has(reason)) return;
      reasons.add(reason);
      changes.emit("change");
    },
    clear(reason) {
      if (reasons.delete(reason)) changes.emit("change");
    },
  };
}

/** What readiness follows of the store. */
type StoreState = {
  /** Undefined while the store is ready. */
  unreadyCause(): string | undefined;
  onReadyChange(listener: () => void): () => void;
};

/** Keeps the instance out of traffic, with the cause, while the store is not ready. Returns a function that stops it. */
export function followStore(store: StoreState, readiness: ReadinessSwitch): () => void {
  let cause: string | undefined;
  const update = () => {
    const before = cause;
    cause = store.unreadyCause();
    if (before !== undefined && before !== cause) readiness.clear(before);
    if (cause !== undefined) readiness.block(cause);
  };
  update();
  return store.onReadyChange(update);
}

/** The page /readyz: 200 if the instance is ready, else 503 with the reasons. */
export function readinessPage(readiness: Readiness): Page {
  const reasons = readiness.reasons();
  return jsonPage(reasons.length === 0 ? 200 : 503, { ready: reasons.length === 0, reasons });
}
