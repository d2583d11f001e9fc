// The shape of an implementation of SessionService, free of any host: what src/rpc registers on both of them.

import type {
  DescMethodBiDiStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import type { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import type { Feed } from "../domain/feed.ts";
import type { CallContext } from "../domain/call.ts";

type Methods = typeof SessionService.method;

/** The name of an RPC as the implementation spells it, for example `createSession`. */
export type MethodName = keyof Methods;

/** The handler of a method, whatever its kind. A server stream may end in a feed. */
export type Handler<M> =
  M extends DescMethodUnary<infer I, infer O>
    ? (request: MessageShape<I>, call: CallContext) => Promise<MessageInitShape<O>>
    : M extends DescMethodServerStreaming<infer I, infer O>
      ? (request: MessageShape<I>, call: CallContext) => AsyncIterable<MessageInitShape<O> | Feed<MessageInitShape<O>>>
      : M extends DescMethodBiDiStreaming<infer I, infer O>
        ? (requests: AsyncIterable<MessageShape<I>>, call: CallContext) => AsyncIterable<MessageInitShape<O>>
        : never;

/** Every method that is implemented; one that is missing answers UNIMPLEMENTED with its name. */
export type SessionServiceImpl = { readonly [K in MethodName]?: Handler<Methods[K]> };
