// A unary call: authenticates it, sets its deadline, runs the handler, then reports how it ended.

import type { Principal } from "../domain/call.ts";
import { storeTimeout } from "../domain/errors.ts";
import { ActiveCall } from "./active_call.ts";
import { abortOnCancel, admit, handlerOf, reportFinished, type CallHandling } from "./call_handling.ts";
import { toFailure } from "./errors.ts";
import type { IncomingUnaryCall } from "./incoming_call.ts";
import type { Route, UnaryHandler } from "./routes.ts";

// A call ends before its client gives up, so that the client learns that the store hangs.
const MAX_CLIENT_MARGIN_MS = 50;
const CLIENT_MARGIN_SHARE = 0.2;

/** @throws CallFailure and nothing else. */
export async function handleUnaryCall<T>(
  handling: CallHandling,
  route: Route,
  incoming: IncomingUnaryCall<T>,
): Promise<T> {
  const startedMs = performance.now();
  let principal: Principal | undefined;
  let call: ActiveCall | undefined;
  try {
    principal = admit(handling, route, incoming);
    const deadlineMs = Math.min(
      beforeClientDeadline(incoming.clientDeadlineMs, startedMs),
      startedMs + handling.requestTimeoutMs,
    );
    call = new ActiveCall({ principal, deadlineMs, deadlineError: storeTimeout });
    // An encoded handler ends soon, so it does not listen for a cancellation, which would cost more than it saves.
    const encoded = incoming.handleEncoded?.(call);
    let response: T;
    if (encoded !== undefined) {
      response = await call.runUntilAborted(encoded);
    } else {
      const handler = handlerOf<UnaryHandler>(route);
      const request = incoming.decode();
      handling.validate(route.method.input, request);
      abortOnCancel(call, incoming);
      response = incoming.encode(await call.runUntilAborted(handler(request, call)));
    }
    reportFinished(handling, route, startedMs, principal, undefined);
    return response;
  } catch (thrown) {
    const failure = toFailure(thrown);
    reportFinished(handling, route, startedMs, principal, failure);
    throw failure;
  } finally {
    call?.end();
  }
}

function beforeClientDeadline(clientDeadlineMs: number, nowMs: number): number {
  const marginMs = Math.min(MAX_CLIENT_MARGIN_MS, (clientDeadlineMs - nowMs) * CLIENT_MARGIN_SHARE);
  return clientDeadlineMs - Math.max(0, marginMs);
}
