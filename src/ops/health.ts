// grpc.health.v1: Check, List and Watch over the instance's readiness. Anybody may ask.

import { Code, ConnectError } from "@connectrpc/connect";
import { HealthCheckResponse_ServingStatus, type Health } from "../../gen/grpc/health/v1/health_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import type { CallContext } from "../domain/call.ts";
import type { Readiness } from "./readiness.ts";
import type { OpenServiceImpl } from "../rpc/routes.ts";

/** "" is the instance as a whole. */
const SERVICES: readonly string[] = ["", SessionService.typeName];

const { SERVING, NOT_SERVING, SERVICE_UNKNOWN } = HealthCheckResponse_ServingStatus;

export function createHealth(readiness: Readiness): OpenServiceImpl<typeof Health> {
  const status = () => (readiness.reasons().length === 0 ? SERVING : NOT_SERVING);

  return {
    async check({ service }) {
      if (!SERVICES.includes(service)) throw new ConnectError("unknown service", Code.NotFound);
      return { status: status() };
    },

    async list() {
      return { statuses: Object.fromEntries(SERVICES.map((service) => [service, { status: status() }])) };
    },

    async *watch({ service }, call) {
      let told: HealthCheckResponse_ServingStatus | undefined;
      for await (const _ of changesOf(readiness, call)) {
        // The protocol wants the stream of an unknown service kept open, in case it appears.
        const current = SERVICES.includes(service) ? status() : SERVICE_UNKNOWN;
        if (current !== told) yield { status: current };
        told = current;
      }
    },
  };
}

/** One item at once and one after each change, until the call is over. */
async function* changesOf(readiness: Readiness, call: CallContext): AsyncIterable<void> {
  let changed = true;
  let wake: (() => void) | undefined;
  const stop = readiness.onChange(() => {
    changed = true;
    wake?.();
  });
  const onAbort = () => wake?.();
  call.signal.addEventListener("abort", onAbort);
  try {
    while (!call.signal.aborted) {
      if (changed) {
        changed = false;
        yield;
        continue;
      }
      await new Promise<void>((resolve) => (wake = resolve));
    }
    throw call.signal.reason;
  } finally {
    stop();
    call.signal.removeEventListener("abort", onAbort);
  }
}
