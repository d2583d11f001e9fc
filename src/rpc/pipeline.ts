// What the hosts run each call through, so that an error is the same on both: see unary_call.ts and streaming_call.ts.

import { admit, reportFinished, shuttingDown, type CallHandling } from "./call_handling.ts";
import { toFailure } from "./errors.ts";
import type { IncomingCall, IncomingStreamingCall, IncomingUnaryCall } from "./incoming_call.ts";
import type { Route } from "./routes.ts";
import { StreamingCall, type OpenStreams } from "./streaming_call.ts";
import { UnaryCall } from "./unary_call.ts";

export type PipelineOptions = CallHandling & {
  /** Every method that is served. */
  readonly routes: readonly Route[];
};

export type Pipeline = {
  /** What the hosts register. */
  readonly routes: readonly Route[];
  /** How long a unary call may take, and the request of any other that has one. */
  readonly requestTimeoutMs: number;
  /**
   * Checks the credential of a call when nothing but its headers has arrived. It is checked again when the call begins.
   * @throws CallFailure and nothing else.
   */
  checkCredential(route: Route, incoming: Pick<IncomingCall, "authorization">): void;
  /** Begins a unary call whose request has not arrived. @throws CallFailure and nothing else. */
  beginUnary<T>(route: Route, incoming: IncomingUnaryCall<T>): UnaryCall<T>;
  /** @throws CallFailure and nothing else. */
  unary<T>(route: Route, incoming: IncomingUnaryCall<T>): Promise<T>;
  /** @throws CallFailure and nothing else. */
  stream<T>(route: Route, incoming: IncomingStreamingCall<T>): AsyncGenerator<T, void, void>;
  /** Ends all streams with UNAVAILABLE / SHUTTING_DOWN and refuses new ones. Unary calls are not affected. */
  endStreams(): void;
  /** Ends the streams whose credential is no longer valid, or stands for another principal, with CREDENTIAL_INVALID. */
  recheckCredentials(): void;
};

export function createPipeline({ routes, ...handling }: PipelineOptions): Pipeline {
  const openStreams: OpenStreams = { calls: new Set(), isShuttingDown: false };
  return {
    routes,
    requestTimeoutMs: handling.requestTimeoutMs,
    checkCredential(route, incoming) {
      const startedMs = performance.now();
      try {
        admit(handling, route, incoming);
      } catch (thrown) {
        const failure = toFailure(thrown);
        reportFinished(handling, route, startedMs, undefined, failure);
        throw failure;
      }
    },
    beginUnary: (route, incoming) => new UnaryCall(handling, route, incoming),
    unary: async (route, incoming) => await new UnaryCall(handling, route, incoming).run(),
    stream: (route, incoming) => new StreamingCall(handling, openStreams, route, incoming).responses(),
    endStreams() {
      openStreams.isShuttingDown = true;
      for (const call of openStreams.calls) call.abort(shuttingDown);
    },
    recheckCredentials() {
      for (const call of openStreams.calls) call.recheckCredential();
    },
  };
}
