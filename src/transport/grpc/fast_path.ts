// The fast path: serves a unary call directly on its HTTP/2 stream, without grpc-js, if the method has an encoded handler. It
// takes uncompressed application/grpc(+proto) requests only, and leaves all others to grpc-js.

import type { Message } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import type { CallContext } from "../../domain/call.ts";
import { startTimeout } from "../../lib/timeout.ts";
import { CallFailure, toGrpcStatus } from "../../rpc/errors.ts";
import type { IncomingUnaryCall } from "../../rpc/incoming_call.ts";
import type { Pipeline } from "../../rpc/pipeline.ts";
import type { EncodedUnaryHandler, ResponseMessage, Route } from "../../rpc/routes.ts";
import { decodeRequest, encodeResponse, frameMessage, FrameReader } from "./frames.ts";

const CONTENT_TYPES = ["application/grpc", "application/grpc+proto"];
const RESPONSE_HEADERS = { ":status": 200, "content-type": "application/grpc+proto" };
const RESPONSE_OPTIONS = { waitForTrailers: true, sendDate: false };
const OK_TRAILERS = { "grpc-status": "0" };

export type FastPath = ReturnType<typeof createFastPath>;

export function createFastPath(pipeline: Pipeline) {
  const routes = new Map<string, Route>();
  for (const route of pipeline.routes) {
    if (route.encodedHandler !== undefined && route.method.methodKind === "unary") routes.set(`/${route.name}`, route);
  }
  /** Serves the call of a new stream, or leaves the stream unread and returns false. `timeoutMs` is Infinity for none. */
  return (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, timeoutMs: number): boolean => {
    const route = routes.get(headers[":path"]!);
    if (route === undefined || !isPlainGrpcRequest(headers)) return false;
    new FastPathCall(pipeline, route, stream, headers.authorization, timeoutMs).serve();
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
  readonly #pipeline: Pipeline;
  readonly #route: Route;
  readonly #stream: ServerHttp2Stream;
  readonly #frames = new FrameReader();
  #request: Buffer | undefined;
  #isRefused = false;
  #deadlineTimer: NodeJS.Timeout | undefined;

  constructor(
    pipeline: Pipeline,
    route: Route,
    stream: ServerHttp2Stream,
    authorization: string | undefined,
    timeoutMs: number,
  ) {
    this.#pipeline = pipeline;
    this.#route = route;
    this.#stream = stream;
    this.authorization = authorization;
    this.clientDeadlineMs = performance.now() + timeoutMs;
  }

  serve(): void {
    // Once the request is complete, the pipeline enforces the deadline.
    if (this.clientDeadlineMs !== Infinity) {
      this.#deadlineTimer = startTimeout(this.clientDeadlineMs, () => this.#refuse(lateRequest()));
      this.#stream.once("close", () => clearTimeout(this.#deadlineTimer));
    }
    // A reset by the client emits "error" and then "close". It is "close" that cancels the call.
    this.#stream.on("error", () => undefined);
    this.#stream.on("data", (chunk: Buffer) => this.#receive(chunk));
    this.#stream.on("end", () => this.#run());
  }

  onCancel(listener: () => void): void {
    this.#stream.once("close", listener);
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

  #receive(chunk: Buffer): void {
    if (this.#isRefused) return;
    try {
      this.#frames.add(chunk);
      this.#request ??= this.#frames.next();
      if (this.#request !== undefined && !this.#frames.isEmpty) throw notUnary("more than one message");
    } catch (failure) {
      this.#refuse(failure as CallFailure);
    }
  }

  #run(): void {
    if (this.#isRefused) return;
    if (this.#request === undefined) return this.#refuse(notUnary("no message"));
    clearTimeout(this.#deadlineTimer);
    this.#pipeline.unary(this.#route, this).then(
      (response) => respond(this.#stream, response),
      (failure: CallFailure) => respondFailure(this.#stream, failure),
    );
  }

  #refuse(failure: CallFailure): void {
    this.#isRefused = true;
    clearTimeout(this.#deadlineTimer);
    respondFailure(this.#stream, failure);
  }
}

function lateRequest(): CallFailure {
  return new CallFailure(Code.DeadlineExceeded, "the deadline has passed before the request was received completely");
}

function notUnary(received: string): CallFailure {
  return new CallFailure(Code.Unimplemented, `${received} for a unary method`);
}

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

/** Ends the stream with a gRPC status, unless the client is gone. */
export function respondFailure(stream: ServerHttp2Stream, failure: CallFailure): void {
  if (stream.closed || stream.destroyed) return;
  const { code, details, metadata } = toGrpcStatus(failure);
  const status = { "grpc-status": String(code), "grpc-message": encodeURI(details) };
  stream.respond({ ...RESPONSE_HEADERS, ...status, ...metadata.toHttp2Headers() }, { endStream: true });
}
