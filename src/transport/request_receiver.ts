// Receives the request of an HTTP/2 stream for a protocol library: joins its chunks, limits how many bytes wait, how long it may
// take, and resets the stream if it has been answered before its request was complete.

import { constants, type ServerHttp2Stream } from "node:http2";
import { startTimeout } from "../lib/timeout.ts";
import { lateRequest, type CallFailure } from "../rpc/errors.ts";
import { MAX_RECEIVE_BYTES } from "./host.ts";
import { ReceiveBuffer, type ReceiveMemory } from "./receive_buffer.ts";

/** An envelope begins with one byte of flags, and the length of its message in four bytes. */
export const ENVELOPE_HEADER_BYTES = 5;

export type ReceiverOptions = {
  readonly memory: ReceiveMemory;
  /** The request is a sequence of envelopes, as in all protocols but Connect's unary form. */
  readonly isEnveloped: boolean;
  /** How long the request may take to arrive; undefined if it is as long as the call. */
  readonly timeoutMs: number | undefined;
  /** Answers the call with this failure, if it has not been answered. */
  readonly refuse: (failure: CallFailure) => void;
};

/** Takes over the request of a stream that nothing has been read of. */
export function receiveRequest(stream: ServerHttp2Stream, options: ReceiverOptions): void {
  new RequestReceiver(stream, options).start();
}

/** Resets a stream after its response, because the rest of its request would be received for nothing. */
export function resetAfterResponse(stream: ServerHttp2Stream): void {
  if (!stream.closed && !stream.destroyed) stream.close(constants.NGHTTP2_NO_ERROR);
}

class RequestReceiver {
  readonly #stream: ServerHttp2Stream;
  readonly #options: ReceiverOptions;
  readonly #buffer: ReceiveBuffer;
  readonly #push: ServerHttp2Stream["push"];
  /** What has arrived is passed on as it is: the library refuses it. */
  #isPassing = false;
  /** What arrives is dropped. */
  #isAnswered = false;
  #hasEnded = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(stream: ServerHttp2Stream, options: ReceiverOptions) {
    this.#stream = stream;
    this.#options = options;
    this.#buffer = new ReceiveBuffer(options.memory, stream.session!);
    this.#push = stream.push;
  }

  start(): void {
    const stream = this.#stream;
    // The request is complete with its headers.
    if (stream.endAfterHeaders) return;
    const { timeoutMs } = this.#options;
    if (timeoutMs !== undefined) {
      this.#timer = startTimeout(performance.now() + timeoutMs, () => this.#refuse(lateRequest()));
    }
    // Node calls this method for each chunk that it has read. To read the stream here and to write it to another one would cost
    // more, and both libraries need an HTTP/2 stream.
    stream.push = (chunk: Buffer | null) => this.#receive(chunk);
    stream.once("close", () => this.#stop());
    // The trailers of a response are sent in a setImmediate after this event, and the libraries listen for it later than this.
    stream.once("wantTrailers", () => setImmediate(() => setImmediate(() => this.#onAnswered())));
    stream.once("finish", () => {
      this.#isAnswered = true;
      this.#stop();
      if (stream.sentHeaders?.["grpc-status"] !== undefined) this.#onAnswered();
    });
  }

  #receive(chunk: Buffer | null): boolean {
    if (chunk === null) return this.#end();
    if (this.#isAnswered) return true;
    if (this.#isPassing) return this.#passOn(chunk);
    try {
      this.#buffer.append(chunk);
    } catch (failure) {
      this.#refuse(failure as CallFailure);
      return true;
    }
    if (!this.#options.isEnveloped) {
      if (this.#buffer.length > MAX_RECEIVE_BYTES) this.#isPassing = true;
      return this.#isPassing ? this.#passOn(this.#buffer.take(this.#buffer.length)) : true;
    }
    let hasRoom = true;
    while (this.#buffer.length >= ENVELOPE_HEADER_BYTES) {
      const messageBytes = this.#buffer.content.readUInt32BE(1);
      this.#isPassing = messageBytes > MAX_RECEIVE_BYTES;
      const length = this.#isPassing ? this.#buffer.length : ENVELOPE_HEADER_BYTES + messageBytes;
      if (this.#buffer.length < length) break;
      hasRoom = this.#passOn(this.#buffer.take(length));
    }
    return hasRoom;
  }

  #end(): boolean {
    this.#hasEnded = true;
    if (this.#buffer.length > 0) this.#passOn(this.#buffer.take(this.#buffer.length));
    this.#stop();
    return this.#passOn(null);
  }

  #passOn(chunk: Buffer | null): boolean {
    return this.#push.call(this.#stream, chunk);
  }

  #refuse(failure: CallFailure): void {
    this.#isAnswered = true;
    this.#stop();
    this.#options.refuse(failure);
  }

  #onAnswered(): void {
    if (!this.#hasEnded) resetAfterResponse(this.#stream);
  }

  #stop(): void {
    clearTimeout(this.#timer);
    this.#buffer.clear();
  }
}
