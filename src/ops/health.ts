// grpc.health.v1: Check, List and Watch report the instance's readiness. They need no credential.

import { Code, ConnectError } from "@connectrpc/connect";
import { Health, HealthCheckResponse_ServingStatus } from "../../gen/grpc/health/v1/health_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import type { CallContext } from "../domain/call.ts";
import type { Readiness } from "./readiness.ts";
import { openRoutes, type OpenServiceImpl, type Route } from "../rpc/routes.ts";

/** "" names the instance as a whole. */
const SERVICES: readonly string[] = ["", SessionService.typeName];

const { SERVING, NOT_SERVING, SERVICE_UNKNOWN } = HealthCheckResponse_ServingStatus;

export function healthRoutes(readiness: Readiness): Route[] {
  return openRoutes(Health, createHealth(readiness));
}

function createHealth(readiness: Readiness): OpenServiceImpl<typeof Health> {
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
      let lastSent: HealthCheckResponse_ServingStatus | undefined;
      for await (const _ of changesOf(readiness, call)) {
        // The protocol requires that the stream of an unknown service stays open, in case the service appears.
        const current = SERVICES.includes(service) ? status() : SERVICE_UNKNOWN;
        if (current !== lastSent) yield { status: current };
        lastSent = current;
      }
    },
  };
}

/** Yields at once, and then after each change, until the call is aborted. */
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
