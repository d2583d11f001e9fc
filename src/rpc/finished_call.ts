// What observers learn of a call that has ended: the call log and the metrics.

import type { Principal } from "../domain/call.ts";
import type { CallFailure } from "./errors.ts";

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
