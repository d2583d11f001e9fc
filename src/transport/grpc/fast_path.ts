// The unary methods that are called most, served on their HTTP/2 streams: what grpc-js makes of a call, whatever its kind, costs
// more than all else that such a call needs. Requests that are not as clients send them are left to grpc-js.

import type { Message } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import type { CallContext } from "../../domain/call.ts";
import type { Deadlines } from "../../lib/deadlines.ts";
import { CallFailure, toGrpcStatus } from "../../rpc/errors.ts";
import { decodeRequest, encodeResponse, frameMessage, MessageReader } from "./frames.ts";
import type { Pipeline, UnaryCall } from "../../rpc/pipeline.ts";
import type { ResponseMessage, EncodedUnaryHandler, Route } from "../../rpc/routes.ts";

/** Serves the call of a new stream; false: it is for grpc-js. */
export type FastPath = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => boolean;

const CONTENT_TYPES = ["application/grpc", "application/grpc+proto"];
const RESPONSE_HEADERS = { ":status": 200, "content-type": "application/grpc+proto" };
const RESPONSE_OPTIONS = { waitForTrailers: true, sendDate: false };
const OK_TRAILERS = { "grpc-status": "0" };

const TIMEOUT = /^(\d{1,8})([HMSmun])$/;
const MS_OF_UNIT: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

export function createFastPath(pipeline: Pipeline, maxReceiveBytes: number): FastPath {
  const routes = new Map<string, Route>();
  for (const route of pipeline.routes) {
    if (route.encodedHandler !== undefined && route.method.methodKind === "unary") routes.set(`/${route.name}`, route);
  }

  return (stream, headers) => {
    const route = routes.get(headers[":path"]!);
    if (route === undefined || headers[":method"] !== "POST") return false;
    if (!CONTENT_TYPES.includes(headers["content-type"]!)) return false;
    const encoding = headers["grpc-encoding"];
    if (encoding !== undefined && encoding !== "identity") return false;
    const timeoutMs = timeoutMsOf(headers["grpc-timeout"]);
    if (timeoutMs === undefined) return false;

    const call = new FastPathCall(route, stream, headers.authorization, performance.now() + timeoutMs);
    const limits = { maxBytes: maxReceiveBytes, deadlineMs: call.clientDeadlineMs, deadlines: pipeline.deadlines };
    receive(stream, limits, (message) => {
      call.request = message;
      pipeline.unary(route, call).then(
        (answer) => respond(stream, answer),
        (failure: CallFailure) => respondFailure(stream, failure),
      );
    });
    return true;
  };
}

/** A call as the pipeline wants it. */
class FastPathCall implements UnaryCall<Buffer> {
  readonly authorization: string | undefined;
  readonly clientDeadlineMs: number;
  request: Buffer | undefined;
  readonly #route: Route;
  readonly #stream: ServerHttp2Stream;

  constructor(route: Route, stream: ServerHttp2Stream, authorization: string | undefined, clientDeadlineMs: number) {
    this.#route = route;
    this.#stream = stream;
    this.authorization = authorization;
    this.clientDeadlineMs = clientDeadlineMs;
  }

  onCancel(listener: () => void): void {
    this.#stream.once("close", listener);
  }

  handleEncoded(context: CallContext): Promise<Buffer> | undefined {
    return (this.#route.encodedHandler as EncodedUnaryHandler)(this.request!, context);
  }

  decode(): Message {
    return decodeRequest(this.#route.method, this.request!);
  }

  encode(answer: ResponseMessage): Buffer {
    return encodeResponse(this.#route.method, answer);
  }
}

/** `deadlineMs` on the clock of performance.now(). */
type Limits = { readonly maxBytes: number; readonly deadlineMs: number; readonly deadlines: Deadlines };

/** Calls `onMessage` with the one message of a stream once the client has ended it; answers what is not one in time. */
function receive(
  stream: ServerHttp2Stream,
  { maxBytes, deadlineMs, deadlines }: Limits,
  onMessage: (message: Buffer) => void,
): void {
  const reader = new MessageReader(maxBytes);
  let message: Buffer | undefined;
  let refused = false;
  const wait = deadlineMs === Infinity ? undefined : { deadlineMs, onDeadline: () => refuse(tooLate()) };
  if (wait !== undefined) deadlines.add(wait);

  function stopWaiting(): void {
    if (wait !== undefined) deadlines.remove(wait);
  }

  function refuse(failure: CallFailure): void {
    refused = true;
    stopWaiting();
    respondFailure(stream, failure);
  }

  // Of a client that resets its stream; "close" says the same.
  stream.on("error", () => undefined);
  stream.on("data", (chunk: Buffer) => {
    if (refused) return;
    try {
      reader.add(chunk);
      message ??= reader.next();
      if (message !== undefined && !reader.isEmpty) refuse(notOne("more than one message"));
    } catch (failure) {
      refuse(failure as CallFailure);
    }
  });
  stream.on("end", () => {
    stopWaiting();
    if (refused) return;
    if (message === undefined) refuse(notOne("no message"));
    else onMessage(message);
  });
}

function tooLate(): CallFailure {
  return new CallFailure(Code.DeadlineExceeded, "the deadline has passed before the request was there");
}

function notOne(what: string): CallFailure {
  return new CallFailure(Code.Unimplemented, `${what} for a unary method`);
}

function respond(stream: ServerHttp2Stream, answer: Buffer): void {
  // The client may be gone.
  if (stream.closed || stream.destroyed) return;
  stream.respond(RESPONSE_HEADERS, RESPONSE_OPTIONS);
  stream.once("wantTrailers", sendOk);
  stream.end(frameMessage(answer));
}

function sendOk(this: ServerHttp2Stream): void {
  this.sendTrailers(OK_TRAILERS);
}

function respondFailure(stream: ServerHttp2Stream, failure: CallFailure): void {
  if (stream.closed || stream.destroyed) return;
  const { code, details, metadata } = toGrpcStatus(failure);
  const status = { "grpc-status": String(code), "grpc-message": encodeURI(details) };
  stream.respond({ ...RESPONSE_HEADERS, ...status, ...metadata.toHttp2Headers() }, { endStream: true });
}

/** Infinity when there is none, undefined when it is not one. */
function timeoutMsOf(header: string | string[] | undefined): number | undefined {
  if (header === undefined) return Infinity;
  const [, value, unit] = TIMEOUT.exec(String(header)) ?? [];
  return value === undefined ? undefined : Number(value) * MS_OF_UNIT[unit!]!;
}
