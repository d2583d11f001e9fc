// What the hosts run each call through, so that an error is the same on both: see unary_call.ts and streaming_call.ts.

import { shuttingDown, type CallHandling } from "./call_handling.ts";
import type { IncomingStreamingCall, IncomingUnaryCall } from "./incoming_call.ts";
import type { Route } from "./routes.ts";
import { StreamingCall, type OpenStreams } from "./streaming_call.ts";
import { handleUnaryCall } from "./unary_call.ts";

export type PipelineOptions = CallHandling & {
  /** Every method that is served. */
  readonly routes: readonly Route[];
};

export type Pipeline = {
  /** What the hosts register. */
  readonly routes: readonly Route[];
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
    unary: (route, incoming) => handleUnaryCall(handling, route, incoming),
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
