// Counts and logs the connections that this service ends because of what their clients do.

import type { Logger } from "pino";
import { Counter, type Registry } from "prom-client";

/** Why a connection was ended. */
export type ConnectionEnd = "silent" | "cancelled_calls";

/** Is called when a connection is ended. `peer` is the address of its client; undefined on a Unix socket. */
export type ConnectionObserver = (reason: ConnectionEnd, peer: string | undefined) => void;

const REASONS: readonly ConnectionEnd[] = ["silent", "cancelled_calls"];

export function registerConnectionMetrics(registry: Registry): ConnectionObserver {
  const ended = new Counter({
    name: "session_authority_connections_ended_total",
    help: "HTTP/2 connections that the service ended: silent ones, and those with too many cancelled calls.",
    labelNames: ["reason"],
    registers: [registry],
  });
  for (const reason of REASONS) ended.inc({ reason }, 0);
  return (reason) => ended.inc({ reason });
}

export function createConnectionLog(logger: Logger): ConnectionObserver {
  return (reason, peer) => {
    if (reason === "silent") logger.debug({ peer }, "connection closed: its client is silent");
    else logger.warn({ peer }, "more calls of a connection were cancelled than SA_CANCEL_RATE allows; it is closed");
  };
}
