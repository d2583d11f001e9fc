// The table from the outcome of a script, which is the first element of its reply, to the error that the caller gets.

import { invalidField, SessionError } from "../domain/errors.ts";
import type { StoreReply } from "./connection/store_client.ts";

/** The most fields that a session can have. */
export const FIELDS_MAX = 128;

/** Outcomes that fail a call, unless the store function handles them itself. `values` is the rest of the reply. */
const ERROR_OF_OUTCOME = {
  not_found: sessionNotFound,
  // Its use has ended the session; the caller must not learn more than that there is none.
  reused: sessionNotFound,
  version_mismatch: () => new SessionError("VERSION_MISMATCH", "the session has another version than expected_version"),
  field_limit: () => new SessionError("FIELD_LIMIT_REACHED", `a session has at most ${FIELDS_MAX} fields`),
  not_an_integer: () => new SessionError("NOT_AN_INTEGER", "the field's value is not an int64"),
  overflow: () => new SessionError("INTEGER_OVERFLOW", "the sum is not an int64"),
  // The ip_binding has ended the session, as in GetSession.
  ip_mismatch: sessionNotFound,
  rotated_concurrently: ([retryAfterMs]) =>
    new SessionError("ROTATED_CONCURRENTLY", "the token was rotated by another call", {
      ...(retryAfterMs !== undefined && { retryAfterMs: Number(retryAfterMs) }),
    }),
  request_id_reused: () => new SessionError("REQUEST_ID_REUSED", "request_id was used by another Create method"),
  request_id_spent: () => new SessionError("REQUEST_ID_SPENT", "the session that request_id created has ended"),
  revoked_since_login: () =>
    new SessionError("REVOKED_SINCE_LOGIN", "all sessions of the user were revoked after authentication.time"),
  authenticated_in_future: () =>
    new SessionError("AUTHENTICATED_IN_FUTURE", "authentication.time is in the future by the store's clock"),
  extend_forbidden: () => new SessionError("SCOPE_MISSING", "a later absolute_expire_time needs the scope extend"),
  deadline_out_of_range: () =>
    invalidField(
      "absolute_expire_time",
      "must be in the future, and not after SA_ABSOLUTE_TIMEOUT_MAX since the session's creation",
    ),
  session_limit: () => new SessionError("SESSION_LIMIT_REACHED", "the user has as many sessions as the limit allows"),
  rate_limited: ([retryAfterMs]) =>
    new SessionError("CREATE_RATE_EXCEEDED", "the user creates sessions too fast", {
      retryAfterMs: Number(retryAfterMs),
    }),
} as const satisfies Record<string, (values: readonly StoreReply[]) => SessionError>;

/** Outcomes other than `ok`: those of the table, and those that are always a result of the store function. */
export type Outcome =
  | keyof typeof ERROR_OF_OUTCOME
  | "moving"
  | "moved"
  | "owned"
  | "id_taken"
  | "compare_address"
  | "alive"
  | "ended"
  | "unknown";

/** Makes the error of an outcome. An outcome without an entry is a defect of the script or of its caller. */
export function errorOfOutcome(script: string, outcome: string, values: readonly StoreReply[]): Error {
  return Object.hasOwn(ERROR_OF_OUTCOME, outcome)
    ? ERROR_OF_OUTCOME[outcome as keyof typeof ERROR_OF_OUTCOME](values)
    : new Error(`the script ${script} returned an unexpected outcome: ${outcome}`);
}

export function sessionNotFound(): SessionError {
  return new SessionError("SESSION_NOT_FOUND", "there is no such session");
}
