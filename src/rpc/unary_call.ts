// A unary call: authenticates it and starts its deadline when its headers have arrived, runs the handler when its request has,
// then reports how it ended.

import type { Principal } from "../domain/call.ts";
import { storeTimeout } from "../domain/errors.ts";
import { ActiveCall } from "./active_call.ts";
import { abortOnCancel, admit, handlerOf, reportFinished, type CallHandling } from "./call_handling.ts";
import { lateRequest, toFailure, type CallFailure } from "./errors.ts";
import type { IncomingUnaryCall } from "./incoming_call.ts";
import type { Route, UnaryHandler } from "./routes.ts";

// A call ends before its client gives up, so that the client learns that the store hangs.
const MAX_CLIENT_MARGIN_MS = 50;
const CLIENT_MARGIN_SHARE = 0.2;

export class UnaryCall<T> {
  readonly #handling: CallHandling;
  readonly #route: Route;
  readonly #incoming: IncomingUnaryCall<T>;
  readonly #startedMs = performance.now();
  #principal: Principal | undefined;
  readonly #call: ActiveCall;
  #isReceived = false;

  /** The request need not have arrived. @throws CallFailure and nothing else, for example if the credential is refused. */
  constructor(handling: CallHandling, route: Route, incoming: IncomingUnaryCall<T>) {
    this.#handling = handling;
    this.#route = route;
    this.#incoming = incoming;
    try {
      this.#principal = admit(handling, route, incoming);
    } catch (thrown) {
      throw this.#reported(thrown);
    }
    const deadlineMs = Math.min(
      beforeClientDeadline(incoming.clientDeadlineMs, this.#startedMs),
      this.#startedMs + handling.requestTimeoutMs,
    );
    this.#call = new ActiveCall({
      principal: this.#principal,
      deadlineMs,
      deadlineError: storeTimeout,
      onAbort: () => {
        // Nothing but the deadline aborts a call before it runs.
        if (!this.#isReceived) incoming.onLate?.(this.#reported(lateRequest()));
      },
    });
  }

  /** Ends a call whose request will never be complete. It must not be run after that. */
  end(failure: CallFailure): void {
    if (this.#call.end()) this.#reported(failure);
  }

  /** Handles the request, which has arrived completely. @throws CallFailure and nothing else. */
  async run(): Promise<T> {
    this.#isReceived = true;
    const call = this.#call;
    const incoming = this.#incoming;
    try {
      // An encoded handler ends soon, so it does not listen for a cancellation, which would cost more than it saves.
      const encoded = incoming.handleEncoded?.(call);
      let response: T;
      if (encoded !== undefined) {
        response = await call.runUntilAborted(encoded);
      } else {
        const handler = handlerOf<UnaryHandler>(this.#route);
        const request = incoming.decode();
        this.#handling.validate(this.#route.method.input, request);
        abortOnCancel(call, incoming);
        response = incoming.encode(await call.runUntilAborted(handler(request, call)));
      }
      this.#report(undefined);
      return response;
    } catch (thrown) {
      throw this.#reported(thrown);
    } finally {
      call.end();
    }
  }

  #reported(thrown: unknown): CallFailure {
    const failure = toFailure(thrown);
    this.#report(failure);
    return failure;
  }

  #report(failure: CallFailure | undefined): void {
    reportFinished(this.#handling, this.#route, this.#startedMs, this.#principal, failure);
  }
}

function beforeClientDeadline(clientDeadlineMs: number, nowMs: number): number {
  const marginMs = Math.min(MAX_CLIENT_MARGIN_MS, (clientDeadlineMs - nowMs) * CLIENT_MARGIN_SHARE);
  return clientDeadlineMs - Math.max(0, marginMs);
}
