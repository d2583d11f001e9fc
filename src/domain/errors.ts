// The error of a failed call and its reasons. src/rpc/errors.ts maps each reason to its gRPC code.

import type { ErrorReason as ContractReason } from "../../gen/session/v1/errors_pb.ts";

/** The `reason` of google.rpc.ErrorInfo: the contract's enum without its prefix. */
export type ErrorReason = Exclude<keyof typeof ContractReason, "UNSPECIFIED">;

/** A bad field of a request: its path in the message (`device.device_id`), and what is wrong with it. */
export type FieldViolation = { readonly field: string; readonly description: string };

type SessionErrorDetails = {
  /** For INVALID_REQUEST: one for each bad field. */
  violations?: readonly FieldViolation[];
  /** For failures that a retry may cure: how long to wait before it. */
  retryAfterMs?: number;
  /** What was thrown. Logged, never sent to the caller. */
  cause?: unknown;
};

/** A failure with a reason that the caller can act on. `message` is sent to the caller, so it holds no id, token or secret. */
export class SessionError extends Error {
  override readonly name = "SessionError";
  readonly reason: ErrorReason;
  readonly violations: readonly FieldViolation[];
  readonly retryAfterMs: number | undefined;

  constructor(reason: ErrorReason, message: string, details: SessionErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.reason = reason;
    this.violations = details.violations ?? [];
    this.retryAfterMs = details.retryAfterMs;
  }
}

/** Returns an INVALID_REQUEST with one violation. */
export function invalidField(field: string, description: string): SessionError {
  return new SessionError("INVALID_REQUEST", `${field}: ${description}`, { violations: [{ field, description }] });
}

// The errors that end a call from outside: its deadline, its caller, or a store that does not answer.
const STORE_RETRY_AFTER_MS = 250;
export const deadlineExceeded = () => new SessionError("DEADLINE_EXCEEDED", "the deadline has passed");
export const cancelled = () => new SessionError("CANCELLED", "the caller is gone");
export const storeTimeout = () =>
  new SessionError("STORE_TIMEOUT", "the store did not answer in time", { retryAfterMs: STORE_RETRY_AFTER_MS });
