// What a host provides of a call that it has received.

import type { Message } from "@bufbuild/protobuf";
import type { CallContext } from "../domain/call.ts";
import type { PushStream } from "../lib/push_stream.ts";
import type { CallFailure } from "./errors.ts";
import type { ResponseMessage } from "./routes.ts";

export type IncomingCall = {
  readonly authorization: string | undefined;
  /** The client's deadline on the clock of performance.now(); Infinity if it set none. */
  readonly clientDeadlineMs: number;
  /** Registers a listener that is called when the client has gone. It may also be called after the call has ended. */
  onCancel(listener: () => void): void;
};

/** A unary call; `T` is what the host sends as a response: bytes or a message. */
export type IncomingUnaryCall<T> = IncomingCall & {
  /** Handles the encoded request. Returns undefined if the request has to be decoded. */
  handleEncoded?(call: CallContext): Promise<T> | undefined;
  decode(): Message;
  encode(response: ResponseMessage): T;
  /** Is called if the deadline passes before the request has arrived. Only hosts that begin a call before that need it. */
  onLate?(failure: CallFailure): void;
};

/** A server stream or a bidirectional stream. */
export type IncomingStreamingCall<T> = IncomingCall & {
  /**
   * Handles the encoded requests; `validate` checks a request that had to be decoded. Returns undefined if the method has
   * no encoded handler.
   */
  handleEncoded?(call: CallContext, validate: (request: Message) => void): AsyncIterable<T | PushStream<T>> | undefined;
  /** The one request of a server stream, or the requests of a bidirectional stream as they come. */
  decode(): Message | AsyncIterable<Message>;
  encode(response: ResponseMessage): T;
  /** Takes the responses of a push stream. Without it, they leave by the iterator like all others. */
  readonly sink?: ResponseSink<T>;
};

/**
 * The methods of a Node stream that a push stream needs. A host passes the stream itself: thousands of sinks receive each
 * change, and a wrapper around each of them would cost more than the write.
 */
export type ResponseSink<T> = {
  /** Always takes the response; returns false if there is no room for another one until "drain". */
  write(response: T): boolean;
  on(event: "drain", listener: () => void): unknown;
};
