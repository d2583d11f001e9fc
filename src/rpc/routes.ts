// Routes: every method of every service, in one form that both hosts register.

import {
  getOption,
  type DescMessage,
  type DescMethod,
  type DescMethodBiDiStreaming,
  type DescMethodUnary,
  type DescService,
  type Message,
  type MessageInitShape,
} from "@bufbuild/protobuf";
import { Scope as ContractScope, scope as scopeOption } from "../../gen/session/v1/options_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import type { CallContext } from "../domain/call.ts";
import { scopeOf, type Scope } from "../domain/scope.ts";
import type { PushStream } from "../lib/push_stream.ts";
import type { EncodedHandler, EncodedHandlers, Handler, SessionServiceImpl } from "../service/handlers.ts";

/** The fields of a response of any method. */
export type ResponseMessage = MessageInitShape<DescMessage>;

/** Handlers without their message types. The method's kind decides which of the two a handler is. */
export type UnaryHandler = Handler<DescMethodUnary>;
export type StreamHandler = (
  input: Message | AsyncIterable<Message>,
  call: CallContext,
) => AsyncIterable<ResponseMessage | PushStream<ResponseMessage>>;

export type EncodedUnaryHandler = EncodedHandler<DescMethodUnary>;
export type EncodedStreamHandler = EncodedHandler<DescMethodBiDiStreaming>;

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

/**
 * The routes of SessionService, including methods that `implementation` lacks: those fail with UNIMPLEMENTED.
 *
 * @throws Error if a method has no scope, so that none is open to every caller by mistake.
 */
export function sessionRoutes(implementation: SessionServiceImpl, encodedHandlers: EncodedHandlers): Route[] {
  return createRoutes(SessionService, implementation, requiredScope, encodedHandlers);
}

/** The routes of a service beside SessionService: health or reflection. Without a scope they need no credential. */
export function operatorRoutes<S extends DescService>(
  service: S,
  implementation: { readonly [K in keyof S["method"]]: Handler<S["method"][K]> },
  scope?: Scope,
): Route[] {
  return createRoutes(service, implementation, () => scope, {});
}

/** Returns the scope that the contract states as an option of the method. */
function requiredScope(method: DescMethod): Scope {
  const scope = getOption(method, scopeOption);
  if (scope === ContractScope.UNSPECIFIED) throw new Error(`the contract states no scope for ${method.name}`);
  return scopeOf(scope);
}

function createRoutes(
  service: DescService,
  handlers: object,
  scopeOfMethod: (method: DescMethod) => Scope | undefined,
  encodedHandlers: object,
): Route[] {
  return service.methods.map((method) => ({
    method,
    name: `${service.typeName}/${method.name}`,
    scope: scopeOfMethod(method),
    handler: (handlers as Record<string, Route["handler"]>)[method.localName],
    encodedHandler: (encodedHandlers as Record<string, Route["encodedHandler"]>)[method.localName],
  }));
}
