// The shape of an implementation of SessionService, independent of any host: src/rpc registers it on both of them.

import type {
  DescMessage,
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

/**
 * Handles one RPC, from request message to response message. A streaming handler yields messages; if it yields a push stream,
 * that must be its last step, and the call continues with what the push stream writes.
 *
 * @throws SessionError for every expected failure; anything else reaches the caller as INTERNAL.
 */
export type Handler<M> =
  M extends DescMethodUnary<infer I, infer O>
    ? (request: MessageShape<I>, call: CallContext) => Promise<MessageInitShape<O>>
    : M extends DescMethodServerStreaming<infer I, infer O>
      ? (request: MessageShape<I>, call: CallContext) => Responses<O>
      : M extends DescMethodBiDiStreaming<infer I, infer O>
        ? (requests: AsyncIterable<MessageShape<I>>, call: CallContext) => Responses<O>
        : never;

type Responses<O extends DescMessage> = AsyncIterable<MessageInitShape<O> | PushStream<MessageInitShape<O>>>;

/**
 * Handles one RPC from the bytes of the encoded request to the bytes of the encoded response. It exists for the most frequent
 * methods only, where encoding and checking messages costs more than the rest of the call. Its outcome is the Handler's.
 *
 * A unary one returns undefined if the request is malformed or breaks a rule of the contract; the host then decodes the request
 * and calls the Handler, which refuses it with details. A streaming one calls `decode` for such a request: it decodes and checks
 * the request, and throws the refusal.
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

/** The methods that have an encoded handler beside their Handler. */
export type EncodedHandlers = { readonly [K in MethodName]?: EncodedHandler<Methods[K]> };

/** The handlers of the implemented methods. A method without one responds UNIMPLEMENTED. */
export type SessionServiceImpl = { readonly [K in MethodName]?: Handler<Methods[K]> };
