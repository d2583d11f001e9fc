// How many calls ended how, and how long they took: counted in plain numbers, since every call is, and told as metrics when
// they are asked for. (A metric of prom-client looks its labels up anew for each count.)

import { Code } from "@connectrpc/connect";
import type { Metric, MetricObjectWithValues, MetricValue, Registry } from "prom-client";
import type { FinishedCall } from "../rpc/finished_call.ts";

const DURATION_BUCKETS_S = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];
const OK = 0;

type MethodCounts = {
  /** By gRPC code. */
  readonly byCode: number[];
  /** By the bucket that a call's duration falls in; the last is for all that are longer. */
  readonly byDuration: number[];
  seconds: number;
};

type Values = (MetricValue<string> & { metricName?: string })[];

/** Registers the two metrics; what is returned counts a call that has ended. */
export function registerCallMetrics(registry: Registry): (call: FinishedCall) => void {
  const methods = new Map<string, MethodCounts>();

  function callsTotal(): Values {
    return [...methods].flatMap(([method, { byCode }]) =>
      byCode.flatMap((value, code) =>
        value === 0 ? [] : [{ value, labels: { method: shortName(method), code: code === OK ? "OK" : Code[code]! } }],
      ),
    );
  }

  function durations(): Values {
    const name = "session_authority_call_duration_seconds";
    return [...methods].flatMap(([longName, { byDuration, seconds }]) => {
      const method = shortName(longName);
      let count = 0;
      const buckets = byDuration.map((calls, i) => {
        const le = DURATION_BUCKETS_S[i] ?? "+Inf";
        return { value: (count += calls), labels: { le, method }, metricName: `${name}_bucket` };
      });
      return [
        ...buckets,
        { value: seconds, labels: { method }, metricName: `${name}_sum` },
        { value: count, labels: { method }, metricName: `${name}_count` },
      ];
    });
  }

  register(
    registry,
    "counter",
    "session_authority_calls_total",
    "Calls that have ended, by method and gRPC code.",
    callsTotal,
  );
  register(
    registry,
    "histogram",
    "session_authority_call_duration_seconds",
    "How long calls took, by method; of a stream, how long it was open.",
    durations,
  );

  return ({ method, durationMs, failure }) => {
    let counts = methods.get(method);
    if (counts === undefined) methods.set(method, (counts = noCounts()));
    counts.byCode[failure === undefined ? OK : failure.code]!++;
    const seconds = durationMs / 1000;
    let bucket = 0;
    while (bucket < DURATION_BUCKETS_S.length && seconds > DURATION_BUCKETS_S[bucket]!) bucket++;
    counts.byDuration[bucket]!++;
    counts.seconds += seconds;
  };
}

function register(registry: Registry, type: string, name: string, help: string, values: () => Values): void {
  const get = async () =>
    ({ name, help, type, aggregator: "sum", values: values() }) as unknown as MetricObjectWithValues<
      MetricValue<string>
    >;
  // All that a registry asks of a metric.
  registry.registerMetric({ name, get } as unknown as Metric);
}

function noCounts(): MethodCounts {
  return {
    byCode: Array<number>(17).fill(0),
    byDuration: Array<number>(DURATION_BUCKETS_S.length + 1).fill(0),
    seconds: 0,
  };
}

function shortName(method: string): string {
  return method.slice(method.indexOf("/") + 1);
}
