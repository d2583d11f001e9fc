// A raw watcher over grpc-js for tests: it records all that a stream brings with its time, and can stall, renew and be cut.

import { create, fromBinary, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import {
  RenewWatchRequestSchema,
  WatchInvalidationsRequestSchema,
  WatchInvalidationsResponseSchema,
  type WatchInvalidationsResponse,
} from "../../gen/session/v1/watch_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { CallError } from "./grpc_client.ts";

export type WatchRequest = MessageInitShape<typeof WatchInvalidationsRequestSchema>;
export type WatchEvent = WatchInvalidationsResponse["event"];

/** What one stream brought; all times are of performance.now(). */
export type StreamRecord = {
  /** The position it was asked to continue from; empty: from now. */
  readonly resumedFrom: string;
  readonly startedMs: number;
  readonly events: { readonly atMs: number; readonly event: WatchEvent }[];
  /** When the renewal with each nonce was sent. */
  readonly renewals: Map<string, number>;
  endedMs: number | undefined;
};

export type WatchStream = {
  readonly record: StreamRecord;
  /** Resolves with how the stream ended; undefined for an end without an error. Never rejects. */
  readonly ended: Promise<CallError | undefined>;
  /** Resolves with the first event, of now or later, that is as asked; rejects when the stream ends or it takes too long. */
  until(isIt: (event: WatchEvent) => boolean, timeoutMs?: number): Promise<WatchEvent>;
  opened(): Promise<{ watchId: string; position: string }>;
  /** Sends a renewal on the stream's own connection; resolves when it was accepted. */
  renew(nonce: string): Promise<void>;
  /** Renews, and resolves with the checkpoint that brings the nonce back. */
  checkpoint(timeoutMs?: number): Promise<string>;
  /** The position to resume from: of the last opening, checkpoint or reset. */
  lastPosition(): string;
  /** Stops reading. */
  stall(): void;
  unstall(): void;
  cancel(): void;
};

export type WatchClient = {
  watch(request?: WatchRequest): WatchStream;
  renew(watchId: string, nonce: string): Promise<void>;
  /** Ends the connection and every stream on it. */
  close(): void;
};

const { watchInvalidations, renewWatch } = SessionService.method;
const pathOf = (method: { name: string }) => `/${SessionService.typeName}/${method.name}`;
const asBuffer = (bytes: Uint8Array) => Buffer.from(bytes);
const asIs = (bytes: Buffer) => bytes;

let lastNonce = 0;

/** One connection of its own, so that a watcher that stalls does not stall others. */
export function createWatchClient(address: string, headers: Record<string, string> = {}): WatchClient {
  const client = new Client(address, credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.initial_reconnect_backoff_ms": 20,
    "grpc.min_reconnect_backoff_ms": 20,
    "grpc.max_reconnect_backoff_ms": 100,
  });
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(headers)) metadata.set(key, value);

  function renew(watchId: string, nonce: string): Promise<void> {
    const bytes = toBinary(RenewWatchRequestSchema, create(RenewWatchRequestSchema, { watchId, nonce }));
    const options = { deadline: Date.now() + 5000 };
    return new Promise((resolve, reject) => {
      client.makeUnaryRequest(pathOf(renewWatch), asBuffer, asIs, bytes, metadata, options, (error) =>
        error ? reject(new CallError(error)) : resolve(),
      );
    });
  }

  function watch(request: WatchRequest = {}): WatchStream {
    const bytes = toBinary(WatchInvalidationsRequestSchema, create(WatchInvalidationsRequestSchema, request));
    const record: StreamRecord = {
      resumedFrom: request.resumePosition ?? "",
      startedMs: performance.now(),
      events: [],
      renewals: new Map(),
      endedMs: undefined,
    };
    const waiting = new Set<() => void>();
    let failure: CallError | undefined;
    const call = client.makeServerStreamRequest(pathOf(watchInvalidations), asBuffer, asIs, bytes, metadata);
    call.on("data", (message: Buffer) => {
      record.events.push({
        atMs: performance.now(),
        event: fromBinary(WatchInvalidationsResponseSchema, message).event,
      });
      for (const look of waiting) look();
    });
    const ended = new Promise<CallError | undefined>((resolve) => {
      call.on("error", (error: ServiceError) => (failure ??= new CallError(error)));
      call.on("status", (status: ServiceError) => {
        record.endedMs = performance.now();
        if (status.code !== 0) failure ??= new CallError(status);
        resolve(failure);
        for (const look of waiting) look();
      });
    });

    function until(isIt: (event: WatchEvent) => boolean, timeoutMs = 5000): Promise<WatchEvent> {
      let seen = 0;
      return new Promise((resolve, reject) => {
        const settle = (done: () => void) => {
          clearTimeout(timer);
          waiting.delete(look);
          done();
        };
        const look = () => {
          for (; seen < record.events.length; seen++) {
            const { event } = record.events[seen]!;
            if (isIt(event)) return settle(() => resolve(event));
          }
          if (record.endedMs !== undefined) settle(() => reject(failure ?? new Error("the stream has ended")));
        };
        const late = () => settle(() => reject(new Error(`what was awaited did not come within ${timeoutMs} ms`)));
        const timer = setTimeout(late, timeoutMs);
        waiting.add(look);
        look();
      });
    }

    async function opened() {
      const event = await until((each) => each.case === "opened");
      return event.value as { watchId: string; position: string };
    }

    async function renewThis(nonce: string): Promise<void> {
      const { watchId } = await opened();
      record.renewals.set(nonce, performance.now());
      await renew(watchId, nonce);
    }

    return {
      record,
      ended,
      until,
      opened,
      renew: renewThis,
      async checkpoint(timeoutMs) {
        const nonce = `n${++lastNonce}`;
        const answered = until((event) => event.case === "checkpoint" && event.value.nonce === nonce, timeoutMs);
        await Promise.all([renewThis(nonce), answered]);
        return ((await answered).value as { position: string }).position;
      },
      lastPosition() {
        const positions = record.events.map(({ event }) => positionOf(event));
        return positions.findLast((position) => position !== undefined) ?? record.resumedFrom;
      },
      stall: () => void call.pause(),
      unstall: () => void call.resume(),
      cancel: () => call.cancel(),
    };
  }

  return { watch, renew, close: () => client.close() };
}

/** The position that an event carries, if any. */
export function positionOf(event: WatchEvent): string | undefined {
  return event.case === "opened" || event.case === "checkpoint" || event.case === "reset"
    ? event.value.position
    : undefined;
}
