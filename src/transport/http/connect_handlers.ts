// The methods on connect's protocols: for each method one handler for gRPC and gRPC-Web, and one for Connect.

import {
  createRegistry,
  type DescMethod,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type Message,
} from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  createConnectRouter,
  type ConnectRouterOptions,
  type HandlerContext,
  type Interceptor,
} from "@connectrpc/connect";
import { compressionGzip } from "@connectrpc/connect-node";
import type { UniversalHandler, UniversalServerRequest, UniversalServerResponse } from "@connectrpc/connect/protocol";
import { codeToHttpStatus, errorFromJsonBytes, errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../../../gen/google/rpc/error_details_pb.ts";
import { SessionError } from "../../domain/errors.ts";
import { toConnectError, toFailure, type CallFailure } from "../../rpc/errors.ts";
import type { IncomingCall } from "../../rpc/incoming_call.ts";
import type { Pipeline } from "../../rpc/pipeline.ts";
import type { ResponseMessage, Route } from "../../rpc/routes.ts";

export type ConnectHandler = (request: UniversalServerRequest) => Promise<UniversalServerResponse>;

/** Returns the handler for a request's path and content type, or undefined if no method has that path. */
type FindConnectHandler = (path: string, contentType: string) => ConnectHandler | undefined;

export function createConnectHandlers(pipeline: Pipeline, maxReceiveBytes: number): FindConnectHandler {
  const grpcHandlers = new Map<string, ConnectHandler>();
  const connectHandlers = new Map<string, ConnectHandler>();
  for (const route of pipeline.routes) {
    grpcHandlers.set(`/${route.name}`, grpcHandler(pipeline, route, maxReceiveBytes));
    connectHandlers.set(`/${route.name}`, connectHandler(pipeline, route, maxReceiveBytes));
  }
  return (path, contentType) => (contentType.startsWith("application/grpc") ? grpcHandlers : connectHandlers).get(path);
}

// With this registry, errors in JSON contain their details in readable form too.
const DETAIL_TYPES = createRegistry(ErrorInfoSchema, BadRequestSchema, RetryInfoSchema);

function routerOptions(maxReceiveBytes: number): ConnectRouterOptions {
  // Bytes that are not UTF-8 must fail instead of becoming U+FFFD. connect reads this option, but its type lacks it.
  const textDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  return {
    readMaxBytes: maxReceiveBytes,
    acceptCompression: [compressionGzip],
    // Responses are never compressed: their size would reveal parts of a token next to text that an attacker chose.
    compressMinBytes: 0xffff_ffff,
    // Strict, because an unknown enum value would silently become the default value.
    jsonOptions: {
      ignoreUnknownFields: false,
      registry: DETAIL_TYPES,
      textDecoder,
    } as ConnectRouterOptions["jsonOptions"],
    interceptors: [addDecodeErrorDetails],
  };
}

/**
 * gRPC and gRPC-Web. Unary methods are registered as server streams, which are the same in these protocols: the request is
 * then decoded inside the interceptors, which can add details to the error of a message that does not decode.
 */
function grpcHandler(pipeline: Pipeline, route: Route, maxReceiveBytes: number): ConnectHandler {
  const router = createConnectRouter({ ...routerOptions(maxReceiveBytes), connect: false });
  const { method } = route;
  if (method.methodKind === "unary") {
    const asStream = { ...method, methodKind: "server_streaming" } as unknown as DescMethodServerStreaming;
    router.rpc(asStream, async function* (request: Message, context: HandlerContext) {
      yield await unary(pipeline, route, request, context);
    });
  } else {
    registerStream(router, pipeline, route);
  }
  return onlyHandler(router.handlers);
}

/** Connect: its unary form, which is also plain HTTP with JSON, and its streams. */
function connectHandler(pipeline: Pipeline, route: Route, maxReceiveBytes: number): ConnectHandler {
  const router = createConnectRouter({ ...routerOptions(maxReceiveBytes), grpc: false, grpcWeb: false });
  const { method } = route;
  if (method.methodKind !== "unary") {
    registerStream(router, pipeline, route);
    return onlyHandler(router.handlers);
  }
  router.rpc(method as DescMethodUnary, (request: Message, context: HandlerContext) =>
    unary(pipeline, route, request, context),
  );
  const handler = onlyHandler(router.handlers);
  return async (request) => addUnaryErrorDetails(method, await handler(request));
}

function onlyHandler(handlers: readonly UniversalHandler[]): ConnectHandler {
  return handlers[0]!;
}

function registerStream(router: ReturnType<typeof createConnectRouter>, pipeline: Pipeline, route: Route): void {
  // A bidirectional stream has another input, but is handled in the same way.
  const method = route.method as DescMethodServerStreaming;
  router.rpc(method, (input: Message | AsyncIterable<Message>, context: HandlerContext) =>
    stream(pipeline, route, input, context),
  );
}

async function unary(
  pipeline: Pipeline,
  route: Route,
  request: Message,
  context: HandlerContext,
): Promise<ResponseMessage> {
  try {
    return await pipeline.unary(route, {
      ...incomingCall(context),
      decode: () => request,
      encode: (response) => response,
    });
  } catch (failure) {
    throw toConnectError(failure as CallFailure);
  }
}

async function* stream(
  pipeline: Pipeline,
  route: Route,
  input: Message | AsyncIterable<Message>,
  context: HandlerContext,
): AsyncIterable<ResponseMessage> {
  const decode = () => (Symbol.asyncIterator in input ? withDecodeErrorDetails(route.method, input) : input);
  try {
    yield* pipeline.stream(route, { ...incomingCall(context), decode, encode: (response) => response });
  } catch (failure) {
    throw toConnectError(failure as CallFailure);
  }
}

function incomingCall(context: HandlerContext): IncomingCall {
  const { signal } = context;
  return {
    authorization: context.requestHeader.get("authorization") ?? undefined,
    clientDeadlineMs: performance.now() + (context.timeoutMs() ?? Infinity),
    onCancel(listener) {
      if (signal.aborted) listener();
      else signal.addEventListener("abort", listener, { once: true });
    },
  };
}

const addDecodeErrorDetails: Interceptor = (next) => async (request) => {
  try {
    return await next(request);
  } catch (error) {
    const decodeError = toDecodeError(request.method, error);
    throw decodeError === undefined ? error : toConnectError(toFailure(decodeError));
  }
};

async function* withDecodeErrorDetails(method: DescMethod, requests: AsyncIterable<Message>): AsyncIterable<Message> {
  try {
    yield* requests;
  } catch (error) {
    throw toDecodeError(method, error) ?? error;
  }
}

// Returns undefined if the error is not about a message that does not decode. connect reports such a message as INTERNAL
// if it is binary, and never with details.
function toDecodeError(method: DescMethod, error: unknown): SessionError | undefined {
  if (!(error instanceof ConnectError) || error.details.length > 0) return undefined;
  if (error.code === Code.InvalidArgument) {
    const [, field, description] = /^cannot decode field [\w.]+\.(\w+) from JSON: (.*)/s.exec(error.rawMessage) ?? [];
    const violations = field === undefined || description === undefined ? [] : [{ field, description }];
    return new SessionError("INVALID_REQUEST", error.rawMessage, { violations });
  }
  if (error.code !== Code.Internal || !error.rawMessage.startsWith("parse binary: ")) return undefined;
  return new SessionError("INVALID_REQUEST", `the request is not a well-formed ${method.input.typeName}`);
}

/** Does the same for Connect's unary form by rewriting the response, since it decodes outside the interceptors. */
async function addUnaryErrorDetails(
  method: DescMethod,
  response: UniversalServerResponse,
): Promise<UniversalServerResponse> {
  if (response.status < 400 || response.body === undefined) return response;
  const chunks: Uint8Array[] = [];
  for await (const chunk of response.body) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  const error = errorFromJsonBytes(body, undefined, new ConnectError("unreadable", Code.Unknown));
  const decodeError = toDecodeError(method, error);
  if (decodeError === undefined) return { ...response, body: once(body) };

  const detailed = errorToJsonBytes(toConnectError(toFailure(decodeError)), { registry: DETAIL_TYPES });
  const header = new Headers(response.header);
  header.set("content-length", String(detailed.length));
  return { ...response, status: codeToHttpStatus(Code.InvalidArgument), header, body: once(detailed) };
}

async function* once(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}
