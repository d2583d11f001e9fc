// The watch loop: keeps a stream of invalidations open, resumes it when it breaks, and renews the lease over both directions.
// The cache may serve only while the lease lasts.

import { durationMs } from "@bufbuild/protobuf/wkt";
import { status, type ClientReadableStream, type ServiceError } from "@grpc/grpc-js";
import type {
  Invalidation,
  WatchCheckpoint,
  WatchInvalidationsResponse,
  WatchOpened,
} from "../../gen/session/v1/watch_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { nowMs } from "./clock.ts";
import type { ServiceConnection } from "./connection.ts";

export type WatchLoopEvents = {
  onInvalidation(invalidation: Invalidation): void;
  /** Reports that invalidations of a partition may be missing; undefined: of all partitions. */
  onReset(partition: number | undefined): void;
  /** The cache may serve until then, on the clock of nowMs(). */
  onLease(untilMs: number): void;
  /** The stream ended or stalled; the loop opens another. */
  onBroken(reason: string): void;
};

const RENEWALS_PER_LEASE = 3;
const OPEN_TIMEOUT_MS = 5000;
const RECONNECT_MIN_MS = 50;
const RECONNECT_MAX_MS = 1000;

/** Watches until the returned function is called. */
export function startWatchLoop(connection: ServiceConnection, events: WatchLoopEvents): () => void {
  const loop = new WatchLoop(connection, events);
  loop.connect();
  return () => loop.close();
}

/** Opens one stream after the other, each from the position that the one before reached. */
class WatchLoop {
  readonly connection: ServiceConnection;
  readonly events: WatchLoopEvents;
  /** Empty: the next stream starts from now. */
  resumePosition = "";
  /** How many streams in a row broke before they had a lease. */
  failures = 0;
  #stream: WatchStream | undefined;
  #reconnectTimer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(connection: ServiceConnection, events: WatchLoopEvents) {
    this.connection = connection;
    this.events = events;
  }

  connect(): void {
    this.#stream = new WatchStream(this);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#reconnectTimer);
    this.#stream?.end("closed");
  }

  onStreamEnd(reason: string, code: status | undefined): void {
    if (this.#closed) return;
    this.events.onBroken(reason);
    // The service does not accept the position any more.
    if (code === status.INVALID_ARGUMENT) {
      this.resumePosition = "";
      this.events.onReset(undefined);
    }
    this.failures++;
    const delayMs = Math.min(RECONNECT_MAX_MS, RECONNECT_MIN_MS * 2 ** Math.min(this.failures, 10));
    this.#reconnectTimer = setTimeout(() => this.connect(), delayMs * (0.5 + Math.random() / 2));
    this.#reconnectTimer.unref();
  }
}

/** One stream of invalidations and the renewals of its lease. */
class WatchStream {
  readonly #loop: WatchLoop;
  readonly #call: ClientReadableStream<WatchInvalidationsResponse>;
  readonly #openTimer: NodeJS.Timeout;
  // When each renewal that has not come back yet was sent, by its nonce.
  readonly #renewals = new Map<string, number>();
  #watchId = "";
  #leaseMs = 0;
  #renewTimer: NodeJS.Timeout | undefined;
  // When the last renewal that came back was sent, or else when the stream opened.
  #lastRenewedMs = 0;
  #ended = false;

  constructor(loop: WatchLoop) {
    this.#loop = loop;
    const request = { resumePosition: loop.resumePosition };
    this.#call = loop.connection.serverStream(SessionService.method.watchInvalidations, request);
    this.#call.on("data", (response: WatchInvalidationsResponse) => this.#onResponse(response));
    this.#call.on("error", (error: ServiceError) => this.end(error.message, error.code));
    this.#call.on("end", () => this.end("the service ended the stream"));
    this.#openTimer = setTimeout(() => this.end("the stream does not open"), OPEN_TIMEOUT_MS);
    this.#openTimer.unref();
  }

  end(reason: string, code?: status): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#openTimer);
    clearInterval(this.#renewTimer);
    this.#call.cancel();
    this.#loop.onStreamEnd(reason, code);
  }

  #onResponse({ event }: WatchInvalidationsResponse): void {
    if (this.#ended) return;
    switch (event.case) {
      case "opened":
        return this.#onOpened(event.value);
      case "invalidation":
        return this.#loop.events.onInvalidation(event.value);
      case "reset":
        // Its position is not kept, because changes of other partitions before it may still follow.
        return this.#loop.events.onReset(event.value.partition);
      case "checkpoint":
        return this.#onCheckpoint(event.value);
      default:
    }
  }

  #onOpened({ watchId, position, lease }: WatchOpened): void {
    clearTimeout(this.#openTimer);
    this.#watchId = watchId;
    this.#leaseMs = lease === undefined ? 0 : durationMs(lease);
    if (this.#leaseMs <= 0) return this.end("the service grants no lease");
    this.#lastRenewedMs = nowMs();
    // A stream that did not resume knows nothing of earlier changes.
    if (this.#loop.resumePosition === "") this.#loop.events.onReset(undefined);
    // A handler may have closed the client.
    if (this.#ended) return;
    this.#loop.resumePosition = position;
    this.#renew();
    this.#renewTimer = setInterval(() => this.#renew(), this.#leaseMs / RENEWALS_PER_LEASE);
    this.#renewTimer.unref();
  }

  #renew(): void {
    const sentMs = nowMs();
    // The stream is dead if no renewal came back for two leases, even if TCP does not report it.
    if (sentMs - this.#lastRenewedMs > 2 * this.#leaseMs) return this.end("no renewal comes back");
    const nonce = `${this.#watchId}-${sentMs}`;
    this.#renewals.set(nonce, sentMs);
    const request = { watchId: this.#watchId, nonce };
    this.#loop.connection
      .unary(SessionService.method.renewWatch, request, this.#leaseMs)
      .catch((error: ServiceError) => {
        this.#renewals.delete(nonce);
        if (error.code === status.NOT_FOUND) this.end(error.message);
      });
  }

  /** Extends the lease if the checkpoint carries the nonce of a renewal, counted from when that renewal was sent. */
  #onCheckpoint({ position, nonce }: WatchCheckpoint): void {
    this.#loop.resumePosition = position;
    const sentMs = this.#renewals.get(nonce);
    if (sentMs === undefined) return;
    this.#renewals.delete(nonce);
    this.#lastRenewedMs = sentMs;
    this.#loop.failures = 0;
    this.#loop.events.onLease(sentMs + this.#leaseMs);
  }
}
