// The fast path: serves a unary call directly on its HTTP/2 stream, without grpc-js, if the method has an encoded handler. It
// takes uncompressed application/grpc(+proto) requests only, and leaves all others to grpc-js.

import type { Message } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import type { CallContext } from "../../domain/call.ts";
import { cancelled } from "../../domain/errors.ts";
import { CallFailure, toFailure, toGrpcStatus } from "../../rpc/errors.ts";
import type { IncomingUnaryCall } from "../../rpc/incoming_call.ts";
import type { Pipeline } from "../../rpc/pipeline.ts";
import type { EncodedUnaryHandler, ResponseMessage, Route } from "../../rpc/routes.ts";
import type { UnaryCall } from "../../rpc/unary_call.ts";
import { ReceiveBuffer, type ReceiveMemory } from "../receive_buffer.ts";
import { resetAfterResponse } from "../request_receiver.ts";
import { decodeRequest, encodeResponse, frameMessage, readOnlyMessage } from "./frames.ts";

const CONTENT_TYPES = ["application/grpc", "application/grpc+proto"];
const RESPONSE_HEADERS = { ":status": 200, "content-type": "application/grpc+proto" };
const RESPONSE_OPTIONS = { waitForTrailers: true, sendDate: false };
const OK_TRAILERS = { "grpc-status": "0" };
/** One timer for many calls: a setImmediate in each turn of the event loop would cost 1 us a call. */
const REVIEW_INTERVAL_MS = 5;

type FastPathHost = {
  readonly pipeline: Pipeline;
  readonly memory: ReceiveMemory;
  readonly newCalls: NewCalls;
};

export function createFastPath(pipeline: Pipeline, memory: ReceiveMemory) {
  const host = { pipeline, memory, newCalls: new NewCalls() };
  const routes = new Map<string, Route>();
  for (const route of pipeline.routes) {
    if (route.encodedHandler !== undefined && route.method.methodKind === "unary") routes.set(`/${route.name}`, route);
  }
  /** Serves the call of a new stream, or leaves the stream unread and returns false. `timeoutMs` is Infinity for none. */
  return (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, timeoutMs: number): boolean => {
    const route = routes.get(headers[":path"]!);
    if (route === undefined || !isPlainGrpcRequest(headers)) return false;
    new FastPathCall(host, route, stream, headers.authorization, timeoutMs).serve();
    return true;
  };
}

function isPlainGrpcRequest(headers: IncomingHttpHeaders): boolean {
  if (headers[":method"] !== "POST" || !CONTENT_TYPES.includes(headers["content-type"]!)) return false;
  const encoding = headers["grpc-encoding"];
  return encoding === undefined || encoding === "identity";
}

/** One call: it receives the request, runs it through the pipeline, and sends the response. */
class FastPathCall implements IncomingUnaryCall<Buffer> {
  readonly authorization: string | undefined;
  readonly clientDeadlineMs: number;
  /** Its place among the new calls; -1 if it is not one of them. */
  newCallIndex = -1;
  readonly #host: FastPathHost;
  readonly #route: Route;
  readonly #stream: ServerHttp2Stream;
  #call: UnaryCall<Buffer> | undefined;
  /** What has arrived: a chunk that is not copied, or several in the buffer. */
  #chunk: Buffer | undefined;
  #buffer: ReceiveBuffer | undefined;
  #request: Buffer | undefined;
  #isRefused = false;
  #hasRun = false;

  constructor(
    host: FastPathHost,
    route: Route,
    stream: ServerHttp2Stream,
    authorization: string | undefined,
    timeoutMs: number,
  ) {
    this.#host = host;
    this.#route = route;
    this.#stream = stream;
    this.authorization = authorization;
    this.clientDeadlineMs = performance.now() + timeoutMs;
  }

  serve(): void {
    // A reset by the client emits "aborted", then possibly "error", and then "close".
    this.#stream.on("error", ignore);
    try {
      this.#call = this.#host.pipeline.beginUnary(this.#route, this);
    } catch (failure) {
      // Nothing is read: the data of the request is dropped, and the stream is reset.
      return respondFailure(this.#stream, failure as CallFailure);
    }
    this.#host.newCalls.add(this);
    this.#stream.on("data", (chunk: Buffer) => this.#receive(chunk));
    this.#stream.on("end", () => this.#run());
  }

  onCancel(listener: () => void): void {
    this.#stream.once("close", listener);
  }

  onLate(failure: CallFailure): void {
    this.#drop();
    respondFailure(this.#stream, failure);
  }

  handleEncoded(context: CallContext): Promise<Buffer> | undefined {
    return (this.#route.encodedHandler as EncodedUnaryHandler)(this.#request!, context);
  }

  decode(): Message {
    return decodeRequest(this.#route.method, this.#request!);
  }

  encode(response: ResponseMessage): Buffer {
    return encodeResponse(this.#route.method, response);
  }

  /** Prepares to wait for the rest of the request. */
  waitForRest(): void {
    if (this.#stream.aborted) return this.#abandon();
    this.#stream.on("aborted", () => this.#abandon());
    try {
      this.#copyChunk();
    } catch (failure) {
      this.#refuse(failure as CallFailure);
    }
  }

  /** Continues in a buffer: a chunk keeps the memory of a whole read of the socket. @throws CallFailure RESOURCE_EXHAUSTED. */
  #copyChunk(): ReceiveBuffer {
    const chunk = this.#chunk;
    this.#chunk = undefined;
    this.#buffer ??= new ReceiveBuffer(this.#host.memory, this.#stream.session ?? this.#host);
    if (chunk !== undefined) {
      this.#buffer.append(chunk);
      // It is a view of the chunk.
      if (this.#request !== undefined) this.#request = readOnlyMessage(this.#buffer.content);
    }
    return this.#buffer;
  }

  #receive(chunk: Buffer): void {
    if (this.#isRefused) return;
    try {
      if (this.#chunk === undefined && this.#buffer === undefined) this.#chunk = chunk;
      else this.#copyChunk().append(chunk);
      this.#request = readOnlyMessage(this.#chunk ?? this.#buffer!.content);
    } catch (failure) {
      this.#refuse(failure as CallFailure);
    }
  }

  #run(): void {
    if (this.#isRefused) return;
    if (this.#request === undefined) {
      return this.#refuse(new CallFailure(Code.Unimplemented, "no message for a unary method"));
    }
    this.#hasRun = true;
    this.#host.newCalls.delete(this);
    this.#buffer?.clear();
    this.#call!.run().then(
      (response) => respond(this.#stream, response),
      (failure: CallFailure) => respondFailure(this.#stream, failure),
    );
  }

  #refuse(failure: CallFailure): void {
    this.#drop();
    this.#call!.end(failure);
    respondFailure(this.#stream, failure);
  }

  /** The client is gone before its request was complete. */
  #abandon(): void {
    if (this.#isRefused || this.#hasRun) return;
    this.#drop();
    this.#call!.end(toFailure(cancelled()));
  }

  #drop(): void {
    this.#isRefused = true;
    this.#host.newCalls.delete(this);
    this.#chunk = undefined;
    this.#buffer?.clear();
  }
}

/**
 * Calls that have begun a moment ago and whose requests are incomplete. Most are complete at once, so nothing is set up for a call
 * before it has been here for a moment. A complete call is removed: its objects would otherwise survive the next collections.
 */
class NewCalls {
  /** A complete call leaves an empty place: a Set would allocate memory again and again. */
  #calls: (FastPathCall | undefined)[] = [];

  add(call: FastPathCall): void {
    call.newCallIndex = this.#calls.push(call) - 1;
    if (call.newCallIndex === 0) setTimeout(() => this.#review(), REVIEW_INTERVAL_MS);
  }

  delete(call: FastPathCall): void {
    if (call.newCallIndex !== -1) this.#calls[call.newCallIndex] = undefined;
  }

  #review(): void {
    const calls = this.#calls;
    this.#calls = [];
    for (const call of calls) {
      if (call === undefined) continue;
      call.newCallIndex = -1;
      call.waitForRest();
    }
  }
}

function ignore(): void {}

function respond(stream: ServerHttp2Stream, response: Buffer): void {
  // The client may be gone.
  if (stream.closed || stream.destroyed) return;
  stream.respond(RESPONSE_HEADERS, RESPONSE_OPTIONS);
  stream.once("wantTrailers", sendOkTrailers);
  stream.end(frameMessage(response));
}

function sendOkTrailers(this: ServerHttp2Stream): void {
  this.sendTrailers(OK_TRAILERS);
}

/** Ends the stream with a gRPC status, and resets it if its request is incomplete. Does nothing if the client is gone. */
export function respondFailure(stream: ServerHttp2Stream, failure: CallFailure): void {
  if (stream.closed || stream.destroyed) return;
  const { code, details, metadata } = toGrpcStatus(failure);
  const status = { "grpc-status": String(code), "grpc-message": encodeURI(details) };
  stream.respond({ ...RESPONSE_HEADERS, ...status, ...metadata.toHttp2Headers() }, { endStream: true });
  if (!stream.readableEnded) resetAfterResponse(stream);
}
