// Routes: every method of every service, in one form that both hosts register.

import type { DescMessage, DescMethod, DescService, Message, MessageInitShape } from "@bufbuild/protobuf";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import type { CallContext } from "../domain/call.ts";
import type { PushStream } from "../lib/push_stream.ts";
import type { EncodedHandlers, Handler, MethodName, SessionServiceImpl } from "../service/handlers.ts";
import { SCOPE_OF_METHOD } from "./method_scopes.ts";
import type { Scope } from "../auth/scopes.ts";

/** The fields of a response of any method. */
export type ResponseMessage = MessageInitShape<DescMessage>;

/** Handlers without their message types. The method's kind decides which of the two a handler is. */
export type UnaryHandler = (request: Message, call: CallContext) => Promise<ResponseMessage>;
export type StreamHandler = (
  input: Message | AsyncIterable<Message>,
  call: CallContext,
) => AsyncIterable<ResponseMessage | PushStream<ResponseMessage>>;

/** Handlers from encoded requests to encoded responses; see EncodedHandler. */
export type EncodedUnaryHandler = (request: Buffer, call: CallContext) => Promise<Buffer> | undefined;
export type EncodedStreamHandler = (
  requests: PushStream<Buffer>,
  decode: (request: Buffer) => Message,
  call: CallContext,
) => AsyncIterable<Buffer | PushStream<Buffer>>;

/** A method that is served. */
export type Route = {
  readonly method: DescMethod;
  /** `session.v1.SessionService/CreateSession`. */
  readonly name: string;
  /** The scope that the caller's credential must have; undefined if the method needs no credential. */
  readonly scope: Scope | undefined;
  /** Undefined if the method is not implemented. */
  readonly handler: UnaryHandler | StreamHandler | undefined;
  /** For hosts that receive and send binary protobuf. Undefined if there is only the handler. */
  readonly encodedHandler: EncodedUnaryHandler | EncodedStreamHandler | undefined;
};

/** The implementation of a service that needs no credential: health or reflection. */
export type OpenServiceImpl<S extends DescService> = { readonly [K in keyof S["method"]]: Handler<S["method"][K]> };

/** The routes of SessionService, including methods that `implementation` lacks: those fail with UNIMPLEMENTED. */
export function sessionRoutes(implementation: SessionServiceImpl, encodedHandlers: EncodedHandlers): Route[] {
  return SessionService.methods.map((method) => {
    const name = method.localName as MethodName;
    const handler = implementation[name]?.bind(implementation) as unknown as UnaryHandler | StreamHandler | undefined;
    const scope = SCOPE_OF_METHOD[name];
    return {
      method,
      name: nameOf(method),
      scope,
      handler,
      encodedHandler: encodedHandlers[name] as Route["encodedHandler"],
    };
  });
}

/** The routes of a service that needs no credential. */
export function openRoutes<S extends DescService>(service: S, implementation: OpenServiceImpl<S>): Route[] {
  const handlers = implementation as unknown as Record<string, UnaryHandler | StreamHandler>;
  return service.methods.map((method) => ({
    method,
    name: nameOf(method),
    scope: undefined,
    handler: handlers[method.localName],
    encodedHandler: undefined,
  }));
}

function nameOf(method: DescMethod): string {
  return `${method.parent.typeName}/${method.name}`;
}
