// The shape of an implementation of SessionService, free of any host: what src/rpc registers on both of them.

import type {
  DescMethodBiDiStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import type { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import type { PushStream } from "../lib/push_stream.ts";
import type { CallContext } from "../domain/call.ts";

type Methods = typeof SessionService.method;

/** The name of an RPC as the implementation spells it, for example `createSession`. */
export type MethodName = keyof Methods;

/** The handler of a method, whatever its kind. A stream may end in a feed. */
export type Handler<M> =
  M extends DescMethodUnary<infer I, infer O>
    ? (request: MessageShape<I>, call: CallContext) => Promise<MessageInitShape<O>>
    : M extends DescMethodServerStreaming<infer I, infer O>
      ? (
          request: MessageShape<I>,
          call: CallContext,
        ) => AsyncIterable<MessageInitShape<O> | PushStream<MessageInitShape<O>>>
      : M extends DescMethodBiDiStreaming<infer I, infer O>
        ? (
            requests: AsyncIterable<MessageShape<I>>,
            call: CallContext,
          ) => AsyncIterable<MessageInitShape<O> | PushStream<MessageInitShape<O>>>
        : never;

/**
 * The same from bytes to bytes, for the methods that are called most. Undefined of a unary one: the request has to be decoded.
 * A stream is given how: `decode` also holds the request to its rules.
 */
export type EncodedHandler<M> =
  M extends DescMethodUnary<infer _I, infer _O>
    ? (request: Buffer, call: CallContext) => Promise<Buffer> | undefined
    : M extends DescMethodBiDiStreaming<infer I, infer _O>
      ? (
          requests: PushStream<Buffer>,
          decode: (request: Buffer) => MessageShape<I>,
          call: CallContext,
        ) => AsyncIterable<Buffer | PushStream<Buffer>>
      : never;

/** The methods that are implemented a second time, from bytes to bytes; with the same answers. */
export type EncodedHandlers = { readonly [K in MethodName]?: EncodedHandler<Methods[K]> };

/** Every method that is implemented; one that is missing answers UNIMPLEMENTED with its name. */
export type SessionServiceImpl = { readonly [K in MethodName]?: Handler<Methods[K]> };
