// The watch loop: keeps a stream of invalidations open, resumes it when it breaks, and renews the lease on it. The cache may
// serve only while the lease lasts.

import { durationMs } from "@bufbuild/protobuf/wkt";
import { status, type ServiceError } from "@grpc/grpc-js";
import type { Invalidation, WatchOpened, WatchWithLeaseResponse } from "../../gen/session/v1/watch_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { nowMs } from "./clock.ts";
import type { ServiceConnection } from "./connection.ts";
import { toClientError } from "./errors.ts";

export type WatchLoopEvents = {
  onInvalidation(invalidation: Invalidation): void;
  /** Reports that invalidations of a partition may be missing; undefined: of all partitions. */
  onReset(partition: number | undefined): void;
  /** The cache may serve until then, on the clock of nowMs(). */
  onLease(untilMs: number): void;
  /** The stream ended or stalled; the loop opens another. */
  onBroken(reason: string): void;
};

const CLOCK_READ_MS = 100;
const RENEWALS_PER_LEASE = 3;
const OPEN_TIMEOUT_MS = 5000;
const RECONNECT_MIN_MS = 50;
const RECONNECT_MAX_MS = 1000;

/** Watches until the returned function is called. */
export function startWatchLoop(connection: ServiceConnection, events: WatchLoopEvents): () => void {
  const loop = new WatchLoop(connection, events);
  return () => loop.stop();
}

const { watchWithLease } = SessionService.method;
type Stream = ReturnType<typeof openStream>;

function openStream(connection: ServiceConnection, resumePosition: string) {
  return connection.bidiStream(watchWithLease, { request: { case: "open", value: { resumePosition } } });
}

/** Opens one stream after the other, each from the position that the one before reached. */
class WatchLoop {
  readonly #connection: ServiceConnection;
  readonly #events: WatchLoopEvents;
  // Undefined between two streams and once the loop is closed.
  #stream: Stream | undefined;
  // Ends a stream that does not open, then renews the lease, then opens the next stream.
  #timer: NodeJS.Timeout | undefined;
  // If empty, the next stream starts from now.
  #resumePosition = "";
  // How many streams in a row broke before they had a lease.
  #failures = 0;
  #leaseMs = 0;
  #lastNonce = 0;
  // When each renewal that has not come back yet was sent, by its nonce.
  readonly #renewals = new Map<string, number>();
  // When the last renewal that came back was sent, or else when the stream opened.
  #lastRenewedMs = 0;

  // A change of the wall clock is seen when the clock is read, which must not wait for the next lookup.
  readonly #clockTimer = setInterval(nowMs, CLOCK_READ_MS).unref();

  constructor(connection: ServiceConnection, events: WatchLoopEvents) {
    this.#connection = connection;
    this.#events = events;
    this.#connect();
  }

  #connect(): void {
    const stream = openStream(this.#connection, this.#resumePosition);
    this.#stream = stream;
    stream.on("data", (response: WatchWithLeaseResponse) => this.#onResponse(stream, response));
    stream.on("error", (error: ServiceError) => this.#onEnd(stream, toClientError(error).message, error.code));
    stream.on("end", () => this.#onEnd(stream, "the service ended the stream"));
    this.#timer = setTimeout(() => this.#onEnd(stream, "the stream does not open"), OPEN_TIMEOUT_MS).unref();
  }

  stop(): void {
    clearInterval(this.#clockTimer);
    this.#closeStream();
  }

  #closeStream(): void {
    clearTimeout(this.#timer);
    const stream = this.#stream;
    this.#stream = undefined;
    stream?.cancel();
  }

  #onEnd(stream: Stream, reason: string, code?: status): void {
    if (stream !== this.#stream) return;
    this.#closeStream();
    this.#renewals.clear();
    this.#failures++;
    const delayMs = Math.min(RECONNECT_MAX_MS, RECONNECT_MIN_MS * 2 ** Math.min(this.#failures, 10));
    this.#timer = setTimeout(() => this.#connect(), delayMs * (0.5 + Math.random() / 2)).unref();
    this.#events.onBroken(reason);
    // The service does not accept the position any more.
    if (code === status.INVALID_ARGUMENT) {
      this.#resumePosition = "";
      this.#events.onReset(undefined);
    }
  }

  #onResponse(stream: Stream, { event }: WatchWithLeaseResponse): void {
    if (stream !== this.#stream) return;
    switch (event.case) {
      case "opened":
        return this.#onOpened(stream, event.value);
      case "invalidation":
        return this.#events.onInvalidation(event.value);
      case "reset":
        // Its position is not kept, because changes of other partitions before it may still follow.
        return this.#events.onReset(event.value.partition);
      case "checkpoint": {
        if (event.value.position !== "") this.#resumePosition = event.value.position;
        const sentMs = this.#renewals.get(event.value.nonce);
        if (sentMs === undefined) return;
        this.#renewals.delete(event.value.nonce);
        this.#lastRenewedMs = sentMs;
        this.#failures = 0;
        return this.#events.onLease(sentMs + this.#leaseMs);
      }
      default:
    }
  }

  #onOpened(stream: Stream, { position, lease, hasReferences }: WatchOpened): void {
    clearTimeout(this.#timer);
    // Such a stream does not name the sessions that end, so nothing may be served from memory under it.
    if (hasReferences)
      return this.#onEnd(stream, "the API key lacks the scope read, so the watch names no session ids");
    this.#leaseMs = lease === undefined ? 0 : durationMs(lease);
    if (this.#leaseMs <= 0) return this.#onEnd(stream, "the service grants no lease");
    this.#lastRenewedMs = nowMs();
    // A stream that did not resume knows nothing of earlier changes.
    if (this.#resumePosition === "") this.#events.onReset(undefined);
    // A handler may have closed the client.
    if (stream !== this.#stream) return;
    this.#resumePosition = position;
    this.#renew(stream);
    this.#timer = setInterval(() => this.#renew(stream), this.#leaseMs / RENEWALS_PER_LEASE).unref();
  }

  #renew(stream: Stream): void {
    const sentMs = nowMs();
    // The stream is dead if no renewal came back for two leases, even if TCP does not report it.
    if (sentMs - this.#lastRenewedMs > 2 * this.#leaseMs) return this.#onEnd(stream, "no renewal comes back");
    const nonce = String(++this.#lastNonce);
    this.#renewals.set(nonce, sentMs);
    stream.write({ request: { case: "renewal", value: { nonce } } });
  }
}
