// The watch loop: keeps a stream of invalidations open, resumes it when it breaks, and proves again and again that it is
// alive both ways. Only that proof lets the cache serve.

import { durationMs } from "@bufbuild/protobuf/wkt";
import { status, type ServiceError } from "@grpc/grpc-js";
import type { Invalidation, WatchInvalidationsResponse } from "../../gen/session/v1/watch_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { nowMs } from "./clock.ts";
import type { ServiceConnection } from "./connection.ts";

export type WatchLoopEvents = {
  onInvalidation(invalidation: Invalidation): void;
  /** Continuity is lost for the sessions of a partition; undefined: for all. */
  onReset(partition: number | undefined): void;
  /** Until then, on the clock of nowMs(), what has been heard is good enough to serve from. */
  onLease(untilMs: number): void;
  /** The stream ended or says nothing any more; another is on its way. */
  onBroken(why: string): void;
};

const RENEWALS_PER_LEASE = 3;
const OPEN_TIMEOUT_MS = 5000;
const RECONNECT_MIN_MS = 50;
const RECONNECT_MAX_MS = 1000;

/** Watches until the returned function is called. */
export function startWatchLoop(connection: ServiceConnection, events: WatchLoopEvents): () => void {
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
    let lastProofMs = 0;
    let over = false;
    const openTimer = setTimeout(() => end("the stream does not open"), OPEN_TIMEOUT_MS);
    openTimer.unref();

    function renew(): void {
      const sentMs = nowMs();
      // A stream that proves nothing for two leases is dead, whatever TCP says.
      if (sentMs - lastProofMs > 2 * leaseMs) return end("no renewal comes back");
      const nonce = `${watchId}-${sentMs}`;
      renewals.set(nonce, sentMs);
      connection.unary(renewWatch, { watchId, nonce }, leaseMs).catch((error: ServiceError) => {
        renewals.delete(nonce);
        if (error.code === status.NOT_FOUND) end(error.message);
      });
    }

    function take({ event }: WatchInvalidationsResponse): void {
      if (over) return;
      switch (event.case) {
        case "opened":
          clearTimeout(openTimer);
          watchId = event.value.watchId;
          leaseMs = event.value.lease === undefined ? 0 : durationMs(event.value.lease);
          if (leaseMs <= 0) return end("the service gives no lease");
          lastProofMs = nowMs();
          // Without a position to resume from, what happened before is unknown.
          if (position === "") events.onReset(undefined);
          // A handler may have closed the client.
          if (over) return;
          position = event.value.position;
          renew();
          renewTimer = setInterval(renew, leaseMs / RENEWALS_PER_LEASE);
          renewTimer.unref();
          return;
        case "invalidation":
          return events.onInvalidation(event.value);
        case "reset":
          // Its position is not taken: the changes of other partitions before it may still be on their way.
          return events.onReset(event.value.partition);
        case "checkpoint": {
          position = event.value.position;
          const sentMs = renewals.get(event.value.nonce);
          if (sentMs === undefined) return;
          renewals.delete(event.value.nonce);
          lastProofMs = sentMs;
          failures = 0;
          return events.onLease(sentMs + leaseMs);
        }
        default:
      }
    }

    function end(why: string, code?: status): void {
      if (over) return;
      over = true;
      clearTimeout(openTimer);
      clearInterval(renewTimer);
      stream.cancel();
      if (closed) return;
      events.onBroken(why);
      // The position cannot be read any more.
      if (code === status.INVALID_ARGUMENT) {
        position = "";
        events.onReset(undefined);
      }
      failures++;
      const delayMs = Math.min(RECONNECT_MAX_MS, RECONNECT_MIN_MS * 2 ** Math.min(failures, 10));
      reconnect = setTimeout(connect, delayMs * (0.5 + Math.random() / 2));
      reconnect.unref();
    }

    stream.on("data", take);
    stream.on("error", (error: ServiceError) => end(error.message, error.code));
    stream.on("end", () => end("the service ended the stream"));
    endStream = () => end("closed");
  }

  connect();
  return () => {
    closed = true;
    clearTimeout(reconnect);
    endStream?.();
  };
}
