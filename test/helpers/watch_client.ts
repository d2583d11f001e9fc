// A watch client over grpc-js for tests. It records every event of a stream with its time, and can stall, renew and cancel.
// Its streams are those of WatchWithLease.

import { create, fromBinary, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import {
  WatchWithLeaseRequestSchema,
  WatchWithLeaseResponseSchema,
  type WatchInvalidationsRequestSchema,
  type WatchOpened,
  type WatchWithLeaseResponse,
} from "../../gen/session/v1/watch_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { CallError } from "./grpc_client.ts";

export type WatchRequest = MessageInitShape<typeof WatchInvalidationsRequestSchema>;
export type WatchEvent = WatchWithLeaseResponse["event"];

/** What one stream received. All times are on the clock of performance.now(). */
export type StreamRecord = {
  /** The position that the stream resumed from; empty if it started from now. */
  readonly resumedFrom: string;
  readonly startedMs: number;
  readonly events: { readonly atMs: number; readonly event: WatchEvent }[];
  /** When the renewal with each nonce was sent. */
  readonly renewals: Map<string, number>;
  endedMs: number | undefined;
};

export type WatchStream = {
  readonly record: StreamRecord;
  /** Resolves with the error that ended the stream, or with undefined if there was none. Never rejects. */
  readonly ended: Promise<CallError | undefined>;
  /** Resolves with the first recorded or later event that matches. Rejects if the stream ends first, or after the timeout. */
  until(matches: (event: WatchEvent) => boolean, timeoutMs?: number): Promise<WatchEvent>;
  opened(): Promise<WatchOpened>;
  renew(nonce: string): void;
  /** Sends a request as it is. */
  send(request: MessageInitShape<typeof WatchWithLeaseRequestSchema>): void;
  /** Closes the side of the caller. */
  halfClose(): void;
  /** Renews, and resolves with the position of the stream when the checkpoint has returned the nonce. */
  checkpoint(timeoutMs?: number): Promise<string>;
  /** Returns the position to resume from: that of the last opening, checkpoint or reset. */
  lastPosition(): string;
  /** Stops reading until `unstall`. */
  stall(): void;
  unstall(): void;
  cancel(): void;
};

export type WatchClient = {
  watch(request?: WatchRequest): WatchStream;
  /** Closes the connection and every stream on it. */
  close(): void;
};

const { watchWithLease } = SessionService.method;
const pathOf = (method: { name: string }) => `/${SessionService.typeName}/${method.name}`;
const asBuffer = (bytes: Uint8Array) => Buffer.from(bytes);
const asIs = (bytes: Buffer) => bytes;

let lastNonce = 0;

/** Opens a connection of its own, so that a stalled watcher does not stall others. */
export function createWatchClient(address: string, headers: Record<string, string> = {}): WatchClient {
  const client = new Client(address, credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.initial_reconnect_backoff_ms": 20,
    "grpc.min_reconnect_backoff_ms": 20,
    "grpc.max_reconnect_backoff_ms": 100,
  });
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(headers)) metadata.set(key, value);

  function watch(request: WatchRequest = {}): WatchStream {
    const record: StreamRecord = {
      resumedFrom: request.resumePosition ?? "",
      startedMs: performance.now(),
      events: [],
      renewals: new Map(),
      endedMs: undefined,
    };
    const waiting = new Set<() => void>();
    let failure: CallError | undefined;
    const call = client.makeBidiStreamRequest<Uint8Array, Buffer>(pathOf(watchWithLease), asBuffer, asIs, metadata);
    const send = (message: MessageInitShape<typeof WatchWithLeaseRequestSchema>) =>
      void call.write(toBinary(WatchWithLeaseRequestSchema, create(WatchWithLeaseRequestSchema, message)));
    send({ request: { case: "open", value: request } });
    call.on("data", (message: Buffer) => {
      record.events.push({
        atMs: performance.now(),
        event: fromBinary(WatchWithLeaseResponseSchema, message).event,
      });
      for (const check of waiting) check();
    });
    const ended = new Promise<CallError | undefined>((resolve) => {
      call.on("error", (error: ServiceError) => (failure ??= new CallError(error)));
      call.on("status", (status: ServiceError) => {
        record.endedMs = performance.now();
        if (status.code !== 0) failure ??= new CallError(status);
        resolve(failure);
        for (const check of waiting) check();
      });
    });

    function until(matches: (event: WatchEvent) => boolean, timeoutMs = 5000): Promise<WatchEvent> {
      let seen = 0;
      return new Promise((resolve, reject) => {
        const settle = (done: () => void) => {
          clearTimeout(timer);
          waiting.delete(check);
          done();
        };
        const check = () => {
          for (; seen < record.events.length; seen++) {
            const { event } = record.events[seen]!;
            if (matches(event)) return settle(() => resolve(event));
          }
          if (record.endedMs !== undefined) settle(() => reject(failure ?? new Error("the stream has ended")));
        };
        const late = () => settle(() => reject(new Error(`no such event within ${timeoutMs} ms`)));
        const timer = setTimeout(late, timeoutMs);
        waiting.add(check);
        check();
      });
    }

    function renew(nonce: string): void {
      record.renewals.set(nonce, performance.now());
      send({ request: { case: "renewal", value: { nonce } } });
    }

    function lastPosition(): string {
      const positions = record.events.map(({ event }) => positionOf(event));
      return positions.findLast((position) => position !== undefined) ?? record.resumedFrom;
    }

    return {
      record,
      ended,
      until,
      opened: async () => (await until((event) => event.case === "opened")).value as WatchOpened,
      renew,
      send,
      halfClose: () => void call.end(),
      async checkpoint(timeoutMs) {
        const nonce = `n${++lastNonce}`;
        const returned = until((event) => event.case === "checkpoint" && event.value.nonce === nonce, timeoutMs);
        renew(nonce);
        await returned;
        return lastPosition();
      },
      lastPosition,
      stall: () => void call.pause(),
      unstall: () => void call.resume(),
      cancel: () => call.cancel(),
    };
  }

  return { watch, close: () => client.close() };
}

/** Returns the position that an event carries, or undefined. */
export function positionOf(event: WatchEvent): string | undefined {
  const isPlace = event.case === "opened" || event.case === "checkpoint" || event.case === "reset";
  return isPlace && event.value.position !== "" ? event.value.position : undefined;
}
