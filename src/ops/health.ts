// grpc.health.v1: Check, List and Watch report the instance's readiness. They need no credential.

import { Code, ConnectError } from "@connectrpc/connect";
import { once } from "node:events";
import { Health, HealthCheckResponse_ServingStatus } from "../../gen/grpc/health/v1/health_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import type { Readiness } from "./readiness.ts";
import { operatorRoutes, type Route } from "../rpc/routes.ts";

/** "" names the instance as a whole. */
const SERVICES: readonly string[] = ["", SessionService.typeName];

const { SERVING, NOT_SERVING, SERVICE_UNKNOWN } = HealthCheckResponse_ServingStatus;

export function healthRoutes(readiness: Readiness): Route[] {
  const status = () => (readiness.reasons().length === 0 ? SERVING : NOT_SERVING);

  return operatorRoutes(Health, {
    async check({ service }) {
      if (!SERVICES.includes(service)) throw new ConnectError("unknown service", Code.NotFound);
      return { status: status() };
    },

    async list() {
      return { statuses: Object.fromEntries(SERVICES.map((service) => [service, { status: status() }])) };
    },

    async *watch({ service }, call) {
      let sent: HealthCheckResponse_ServingStatus | undefined;
      for (;;) {
        // The protocol requires that the stream of an unknown service stays open, in case the service appears.
        const current = SERVICES.includes(service) ? status() : SERVICE_UNKNOWN;
        if (current === sent) {
          await once(readiness.changes, "change", { signal: call.signal });
        } else {
          sent = current;
          yield { status: current };
        }
      }
    },
  });
}
