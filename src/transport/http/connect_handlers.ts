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
  type ConnectRouter,
  type ConnectRouterOptions,
  type HandlerContext,
  type Interceptor,
} from "@connectrpc/connect";
import { compressionGzip } from "@connectrpc/connect-node";
import {
  createAsyncIterable,
  type UniversalHandlerFn,
  type UniversalServerResponse,
} from "@connectrpc/connect/protocol";
import { codeToHttpStatus, errorFromJsonBytes, errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import { buffer } from "node:stream/consumers";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../../../gen/google/rpc/error_details_pb.ts";
import { SessionError } from "../../domain/errors.ts";
import { toConnectError, toFailure, type CallFailure } from "../../rpc/errors.ts";
import type { Pipeline } from "../../rpc/pipeline.ts";
import type { ResponseMessage, Route } from "../../rpc/routes.ts";
import { MAX_RECEIVE_BYTES } from "../host.ts";

/** The handlers of one method. */
export type MethodHandlers = {
  readonly route: Route;
  /** For gRPC and gRPC-Web. */
  readonly grpc: UniversalHandlerFn;
  /** For Connect and JSON. */
  readonly connect: UniversalHandlerFn;
};

/** Returns the handlers of all methods by the path of their requests. */
export function createConnectHandlers(pipeline: Pipeline): ReadonlyMap<string, MethodHandlers> {
  const handlersOf = (route: Route) => ({
    route,
    grpc: grpcHandler(pipeline, route),
    connect: connectHandler(pipeline, route),
  });
  return new Map(pipeline.routes.map((route) => [`/${route.name}`, handlersOf(route)]));
}

/**
 * gRPC and gRPC-Web. Unary methods are registered as server streams, which are the same in these protocols: the request is
 * then decoded inside the interceptors, which can add details to the error of a message that does not decode.
 */
function grpcHandler(pipeline: Pipeline, route: Route): UniversalHandlerFn {
  const router = createConnectRouter({ ...routerOptions(pipeline, route), connect: false });
  const { method } = route;
  if (method.methodKind !== "unary") return streamHandler(router, pipeline, route);
  const asStream = { ...method, methodKind: "server_streaming" } as unknown as DescMethodServerStreaming;
  router.rpc(asStream, async function* (request: Message, context: HandlerContext) {
    yield await unary(pipeline, route, request, context);
  });
  return router.handlers[0]!;
}

/** Connect: its unary form, which is also plain HTTP with JSON, and its streams. */
function connectHandler(pipeline: Pipeline, route: Route): UniversalHandlerFn {
  const router = createConnectRouter({ ...routerOptions(pipeline, route), grpc: false, grpcWeb: false });
  const { method } = route;
  if (method.methodKind !== "unary") return streamHandler(router, pipeline, route);
  router.rpc(method as DescMethodUnary, (request: Message, context: HandlerContext) =>
    unary(pipeline, route, request, context),
  );
  const handler = router.handlers[0]!;
  return async (request) => addUnaryErrorDetails(method, await handler(request));
}

function streamHandler(router: ConnectRouter, pipeline: Pipeline, route: Route): UniversalHandlerFn {
  // A bidirectional stream has another input, but is handled in the same way.
  const method = route.method as DescMethodServerStreaming;
  router.rpc(method, async function* (input: Message | AsyncIterable<Message>, context: HandlerContext) {
    const decode = () => (Symbol.asyncIterator in input ? withDecodeErrorDetails(method, input) : input);
    try {
      yield* pipeline.stream(route, { ...incomingCall(context), decode });
    } catch (failure) {
      throw toConnectError(failure as CallFailure);
    }
  });
  return router.handlers[0]!;
}

async function unary(pipeline: Pipeline, route: Route, request: Message, context: HandlerContext) {
  try {
    return await pipeline.unary(route, { ...incomingCall(context), decode: () => request });
  } catch (failure) {
    throw toConnectError(failure as CallFailure);
  }
}

function incomingCall(context: HandlerContext) {
  const { signal } = context;
  return {
    authorization: context.requestHeader.get("authorization") ?? undefined,
    clientDeadlineMs: performance.now() + (context.timeoutMs() ?? Infinity),
    onCancel(listener: () => void) {
      if (signal.aborted) listener();
      else signal.addEventListener("abort", listener, { once: true });
    },
    encode: (response: ResponseMessage) => response,
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

// With this registry, errors in JSON contain their details in readable form too.
const DETAIL_TYPES = createRegistry(ErrorInfoSchema, BadRequestSchema, RetryInfoSchema);

const ROUTER_OPTIONS: ConnectRouterOptions = {
  readMaxBytes: MAX_RECEIVE_BYTES,
  acceptCompression: [compressionGzip],
  // Responses are never compressed: their size would reveal parts of a token next to text that an attacker chose.
  compressMinBytes: 0xffff_ffff,
  jsonOptions: {
    // Strict, because an unknown enum value would silently become the default value.
    ignoreUnknownFields: false,
    registry: DETAIL_TYPES,
    // Bytes that are not UTF-8 must fail instead of becoming U+FFFD. connect reads this option, but its type lacks it.
    textDecoder: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }),
  } as ConnectRouterOptions["jsonOptions"],
  interceptors: [addDecodeErrorDetails],
};

/** Adds the check of the credential, which is made before the body of a request is read. */
function routerOptions(pipeline: Pipeline, route: Route): ConnectRouterOptions {
  const requestGate = ({ requestHeader }: HandlerContext): void => {
    try {
      pipeline.checkCredential(route, { authorization: requestHeader.get("authorization") ?? undefined });
    } catch (failure) {
      throw toConnectError(failure as CallFailure);
    }
  };
  return { ...ROUTER_OPTIONS, requestGate };
}

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
  const body = await buffer(response.body);
  const error = errorFromJsonBytes(body, undefined, new ConnectError("unreadable", Code.Unknown));
  const decodeError = toDecodeError(method, error);
  if (decodeError === undefined) return { ...response, body: createAsyncIterable([body]) };

  const detailed = errorToJsonBytes(toConnectError(toFailure(decodeError)), { registry: DETAIL_TYPES });
  const header = new Headers(response.header);
  header.set("content-length", String(detailed.length));
  const status = codeToHttpStatus(Code.InvalidArgument);
  return { ...response, status, header, body: createAsyncIterable([detailed]) };
}
