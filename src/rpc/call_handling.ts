// What unary and streaming calls share: admission, cancellation, the report at the end, and the errors that end a call.

import type { Principal } from "../domain/call.ts";
import { cancelled, deadlineExceeded, SessionError } from "../domain/errors.ts";
import { ANONYMOUS, type Authenticate } from "../auth/authentication.ts";
import type { ActiveCall } from "./active_call.ts";
import type { CallFailure } from "./errors.ts";
import type { IncomingCall } from "./incoming_call.ts";
import type { RequestValidation } from "./request_validation.ts";
import type { Route, StreamHandler, UnaryHandler } from "./routes.ts";

/** What observers learn of a call that has ended. */
export type FinishedCall = {
  /** `session.v1.SessionService/CreateSession`. */
  readonly method: string;
  readonly durationMs: number;
  /** Undefined if the credential was refused. */
  readonly principal: Principal | undefined;
  /** Undefined if the call succeeded. */
  readonly failure: CallFailure | undefined;
};

/** Is called once for each call. It must not throw. */
export type CallObserver = (call: FinishedCall) => void;

/** What calls are handled with; the same for all calls of an instance. */
export type CallHandling = {
  readonly authenticate: Authenticate;
  readonly validate: RequestValidation["validate"];
  /** How long a unary call may take from its headers on, whether its client sets a deadline or not. */
  readonly requestTimeoutMs: number;
  /** How long a caller may leave a response of a stream unread before the stream is ended. */
  readonly slowReaderMs: number;
  readonly observers: readonly CallObserver[];
};

const SHUTDOWN_RETRY_MS = 500;
/** By how much the clock of a client may be ahead when it gives up at its deadline. */
const CLIENT_CLOCK_TOLERANCE_MS = 5;

/** @throws SessionError CREDENTIAL_INVALID, SCOPE_MISSING. */
export function admit(
  { authenticate }: CallHandling,
  route: Route,
  incoming: Pick<IncomingCall, "authorization">,
): Principal {
  if (route.scope === undefined) return ANONYMOUS;
  const principal = authenticate(incoming);
  if (principal.scopes.has(route.scope)) return principal;
  throw new SessionError("SCOPE_MISSING", `the API key lacks the scope ${route.scope}`);
}

/** @throws SessionError METHOD_NOT_IMPLEMENTED. */
export function handlerOf<H extends UnaryHandler | StreamHandler>(route: Route): H {
  if (route.handler !== undefined) return route.handler as H;
  throw new SessionError("METHOD_NOT_IMPLEMENTED", `${route.name} is not implemented`);
}

export function abortOnCancel(call: ActiveCall, incoming: IncomingCall): void {
  incoming.onCancel(() => {
    // A client that gives up at its deadline resets the stream, which looks like a cancellation.
    const isPastDeadline = performance.now() >= incoming.clientDeadlineMs - CLIENT_CLOCK_TOLERANCE_MS;
    call.abort(isPastDeadline ? deadlineExceeded : cancelled);
  });
}

export function reportFinished(
  { observers }: CallHandling,
  route: Route,
  startedMs: number,
  principal: Principal | undefined,
  failure: CallFailure | undefined,
): void {
  const call = { method: route.name, durationMs: performance.now() - startedMs, principal, failure };
  for (const observe of observers) observe(call);
}

export const shuttingDown = () =>
  new SessionError("SHUTTING_DOWN", "this instance is shutting down", { retryAfterMs: SHUTDOWN_RETRY_MS });
