// The watch loop: keeps a stream of invalidations open, resumes it when it breaks, and proves again and again that it is
// alive both ways. Only that proof lets the cache serve.

import { durationMs } from "@bufbuild/protobuf/wkt";
import { status, type ServiceError } from "@grpc/grpc-js";
import type { Invalidation, WatchInvalidationsResponse } from "../../gen/session/v1/invalidations_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import type { Connection } from "./connection.ts";

export type WatchLoopEvents = {
  onInvalidation(invalidation: Invalidation): void;
  /** Continuity is lost. */
  onReset(): void;
  /** Until then, on the clock of performance.now(), everything that happened before now has been heard. */
  onLease(untilMs: number): void;
};

const RENEWALS_PER_LEASE = 3;
const RECONNECT_MIN_MS = 50;
const RECONNECT_MAX_MS = 1000;

/** Watches until the returned function is called. */
export function startWatchLoop(connection: Connection, events: WatchLoopEvents): () => void {
  const { watchInvalidations, renewWatch } = SessionService.method;
  let closed = false;
  let position = "";
  let failures = 0;
  let endStream: (() => void) | undefined;
  let reconnect: NodeJS.Timeout | undefined;

  function connect(): void {
    const stream = connection.serverStream(watchInvalidations, { resumePosition: position });
    // When each renewal that is still unanswered was sent.
    const renewals = new Map<string, number>();
    let watchId = "";
    let leaseMs = 0;
    let renewTimer: NodeJS.Timeout | undefined;
    let lastProofMs = performance.now();
    let over = false;

    function renew(): void {
      const sentMs = performance.now();
      // A stream that proves nothing for two leases is dead, whatever TCP says.
      if (sentMs - lastProofMs > 2 * leaseMs) return end(undefined);
      const nonce = `${watchId}-${sentMs}`;
      renewals.set(nonce, sentMs);
      connection.unary(renewWatch, { watchId, nonce }, leaseMs).catch((error: ServiceError) => {
        renewals.delete(nonce);
        if (error.code === status.NOT_FOUND) end(undefined);
      });
    }

    function take({ event }: WatchInvalidationsResponse): void {
      if (over) return;
      switch (event.case) {
        case "opened":
          failures = 0;
          watchId = event.value.watchId;
          leaseMs = durationMs(event.value.lease!);
          lastProofMs = performance.now();
          // Without a position to resume from, what happened before is unknown.
          if (position === "") events.onReset();
          position = event.value.position;
          renew();
          renewTimer = setInterval(renew, leaseMs / RENEWALS_PER_LEASE);
          renewTimer.unref();
          return;
        case "invalidation":
          return events.onInvalidation(event.value);
        case "reset":
          position = event.value.position;
          return events.onReset();
        case "checkpoint": {
          position = event.value.position;
          const sentMs = renewals.get(event.value.nonce);
          if (sentMs === undefined) return;
          renewals.delete(event.value.nonce);
          lastProofMs = sentMs;
          return events.onLease(sentMs + leaseMs);
        }
        default:
      }
    }

    function end(error: ServiceError | undefined): void {
      if (over) return;
      over = true;
      clearInterval(renewTimer);
      stream.cancel();
      if (closed) return;
      if (error?.code === status.INVALID_ARGUMENT) {
        position = "";
        events.onReset();
      }
      failures++;
      const delayMs = Math.min(RECONNECT_MAX_MS, RECONNECT_MIN_MS * 2 ** Math.min(failures, 10));
      reconnect = setTimeout(connect, delayMs * (0.5 + Math.random() / 2));
      reconnect.unref();
    }

    stream.on("data", take);
    stream.on("error", (error: ServiceError) => end(error));
    stream.on("end", () => end(undefined));
    endStream = () => end(undefined);
  }

  connect();
  return () => {
    closed = true;
    clearTimeout(reconnect);
    endStream?.();
  };
}
