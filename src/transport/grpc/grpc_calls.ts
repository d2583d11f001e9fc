// The calls of grpc-js in the form that the pipeline takes. Messages pass grpc-js as bytes: a request that does not
// decode becomes INVALID_ARGUMENT with details here, and would be INTERNAL there.

import type { DescMethod, Message } from "@bufbuild/protobuf";
import type { handleUnaryCall, Server, ServerDuplexStream, ServerUnaryCall, ServerWritableStream } from "@grpc/grpc-js";
import type { EventEmitter } from "node:events";
import type { CallContext } from "../../domain/call.ts";
import { cancelled } from "../../domain/errors.ts";
import { toAsyncIterable, type PushStream } from "../../lib/push_stream.ts";
import { toGrpcStatus, type CallFailure } from "../../rpc/errors.ts";
import type { IncomingCall } from "../../rpc/incoming_call.ts";
import type { Pipeline } from "../../rpc/pipeline.ts";
import type { EncodedStreamHandler, ResponseMessage, Route } from "../../rpc/routes.ts";
import { decodeRequest, encodeResponse } from "./frames.ts";

type UnaryCall = ServerUnaryCall<Buffer, Buffer>;
type ServerStream = ServerWritableStream<Buffer, Buffer>;
type BidiStream = ServerDuplexStream<Buffer, Buffer>;

const passThrough = (bytes: Buffer): Buffer => bytes;

/** Registers a route with a grpc-js server. */
export function registerRoute(server: Server, pipeline: Pipeline, route: Route): void {
  const { method } = route;
  const encode = (response: ResponseMessage) => encodeOnce(method, response);
  const unary = (call: UnaryCall, callback: (error: object | null, response?: Buffer) => void) => {
    const incoming = {
      ...incomingCall(call),
      decode: () => decodeRequest(method, call.request),
      encode: (response: ResponseMessage) => encodeResponse(method, response),
    };
    pipeline.unary(route, incoming).then(
      (response) => callback(null, response),
      (failure: CallFailure) => callback(toGrpcStatus(failure)),
    );
  };
  const serverStream = (call: ServerStream) => {
    const decode = () => decodeRequest(method, call.request);
    void sendResponses(call, pipeline.stream(route, { ...incomingCall(call), sink: call, decode, encode }));
  };
  const bidi = (call: BidiStream) => {
    const decode = () => decodeRequests(method, call);
    const handleEncoded = (context: CallContext, validate: (request: Message) => void) =>
      (route.encodedHandler as EncodedStreamHandler | undefined)?.(
        requestStream(call),
        (bytes) => {
          const request = decodeRequest(method, bytes);
          validate(request);
          return request;
        },
        context,
      );
    const incoming = { ...incomingCall(call), sink: call, handleEncoded, decode, encode };
    void sendResponses(call, pipeline.stream(route, incoming));
  };

  const [type, handler] =
    method.methodKind === "unary"
      ? (["unary", unary] as const)
      : method.methodKind === "server_streaming"
        ? (["serverStream", serverStream] as const)
        : (["bidi", bidi] as const);
  server.register(`/${route.name}`, handler as handleUnaryCall<Buffer, Buffer>, passThrough, passThrough, type);
}

function incomingCall(call: EventEmitter & Pick<UnaryCall, "getDeadline" | "metadata">): IncomingCall {
  const deadline = call.getDeadline();
  const [authorization] = call.metadata.get("authorization");
  return {
    authorization: typeof authorization === "string" ? authorization : undefined,
    clientDeadlineMs: deadline === Infinity ? Infinity : performance.now() + Number(deadline) - Date.now(),
    onCancel: (listener) => void call.on("cancelled", listener),
  };
}

// One event is one message that is written to many streams, one after the other, and encoded for the first of them. The
// map serves streams that write it later, from their queue.
const encodedResponses = new WeakMap<object, Buffer>();
let latest: { readonly response: object; readonly bytes: Buffer } | undefined;

function encodeOnce(method: DescMethod, response: ResponseMessage): Buffer {
  if (latest?.response === response) return latest.bytes;
  let bytes = encodedResponses.get(response);
  if (bytes === undefined) encodedResponses.set(response, (bytes = encodeResponse(method, response)));
  latest = { response, bytes };
  return bytes;
}

/** Writes the responses as fast as the client reads them, then the status. */
async function sendResponses(call: ServerStream | BidiStream, responses: AsyncIterable<Buffer>): Promise<void> {
  try {
    for await (const response of responses) if (!call.write(response)) await drained(call);
    call.end();
  } catch (failure) {
    call.emit("error", toGrpcStatus(failure as CallFailure));
  }
}

function drained(call: ServerStream | BidiStream): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      call.off("drain", done);
      call.off("close", done);
      resolve();
    };
    call.on("drain", done);
    call.on("close", done);
    if (call.destroyed) done();
  });
}

async function* decodeRequests(method: DescMethod, call: BidiStream): AsyncIterable<Message> {
  for await (const bytes of toAsyncIterable(requestStream(call))) yield decodeRequest(method, bytes);
}

/**
 * The requests of a bidirectional stream as they come. The stream's own iterator is of no use: it destroys the stream at
 * its end, and with it the status that is still to be sent.
 */
function requestStream(call: BidiStream): PushStream<Buffer> {
  return (write, end) => {
    const onGone = () => end(cancelled());
    call.on("data", (bytes: Buffer) => {
      if (!write(bytes)) call.pause();
    });
    call.once("end", () => end());
    call.once("close", onGone).once("cancelled", onGone);
    return () => void call.resume();
  };
}
