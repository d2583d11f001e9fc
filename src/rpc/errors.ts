// The table from an error's reason to its gRPC code, and the form that a failure has on either host's wire.

import { create, toBinary, type DescMessage, type MessageInitShape } from "@bufbuild/protobuf";
import { anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { Metadata, type StatusObject } from "@grpc/grpc-js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { StatusSchema } from "../../gen/google/rpc/status_pb.ts";
import { SessionError, type ErrorReason, type FieldViolation } from "../domain/errors.ts";

const CODE_OF_REASON: Readonly<Record<ErrorReason, Code>> = {
  INVALID_REQUEST: Code.InvalidArgument,
  SESSION_NOT_FOUND: Code.NotFound,
  VERSION_MISMATCH: Code.Aborted,
  SESSION_LIMIT_REACHED: Code.ResourceExhausted,
  FIELD_LIMIT_REACHED: Code.ResourceExhausted,
  STORE_FULL: Code.ResourceExhausted,
  NOT_AN_INTEGER: Code.FailedPrecondition,
  INTEGER_OVERFLOW: Code.FailedPrecondition,
  REQUEST_ID_REUSED: Code.FailedPrecondition,
  REQUEST_ID_SPENT: Code.FailedPrecondition,
  AUTHENTICATED_IN_FUTURE: Code.FailedPrecondition,
  REVOKED_SINCE_LOGIN: Code.FailedPrecondition,
  CREATE_RATE_EXCEEDED: Code.ResourceExhausted,
  ROTATED_CONCURRENTLY: Code.Aborted,
  CREDENTIAL_INVALID: Code.Unauthenticated,
  SCOPE_MISSING: Code.PermissionDenied,
  METHOD_NOT_IMPLEMENTED: Code.Unimplemented,
  NOT_REPLICATED: Code.Unavailable,
  STORE_UNAVAILABLE: Code.Unavailable,
  STORE_TIMEOUT: Code.Unavailable,
  STORE_OVERLOADED: Code.Unavailable,
  SHUTTING_DOWN: Code.Unavailable,
  DEADLINE_EXCEEDED: Code.DeadlineExceeded,
  CANCELLED: Code.Canceled,
  INTERNAL: Code.Internal,
};

/** The `domain` of every google.rpc.ErrorInfo. */
const ERROR_DOMAIN = "session-authority";

const DEFAULT_RETRY_AFTER_MS = 100;
const MAX_MESSAGE_CHARS = 512;
// Errors travel in trailers, and many clients refuse more than 8 KiB of them.
const MAX_VIOLATION_CHARS = 3_000;
const MAX_FIELD_CHARS = 200;

/** A google.rpc message that explains a failure. */
type FailureDetail = { readonly desc: DescMessage; readonly value: MessageInitShape<DescMessage> };

/** A failed call as the caller sees it. `cause` is what was thrown; it is for logs only. */
export class CallFailure extends Error {
  override readonly name = "CallFailure";
  readonly code: Code;
  /** Undefined for a violation of the protocol itself, which has no details. */
  readonly reason: ErrorReason | undefined;
  readonly details: readonly FailureDetail[];

  constructor(
    code: Code,
    message: string,
    explanation: { reason?: ErrorReason; details?: readonly FailureDetail[]; cause?: unknown } = {},
  ) {
    // Text that is not well-formed cannot be encoded into a trailer.
    super(cut(message, MAX_MESSAGE_CHARS), { cause: explanation.cause });
    this.code = code;
    this.reason = explanation.reason;
    this.details = explanation.details ?? [];
  }
}

/** The deadline of a call whose request has not arrived. It is about the protocol, so it has no details, as from grpc-js. */
export function lateRequest(): CallFailure {
  return new CallFailure(Code.DeadlineExceeded, "the deadline has passed before the request was received completely");
}

const UNEXPECTED = new SessionError("INTERNAL", "");

/** Turns anything thrown into what the caller receives. Text that is not known to be harmless is not sent. */
export function toFailure(thrown: unknown): CallFailure {
  if (thrown instanceof CallFailure) return thrown;
  // Only the hosts, health and the protocol library throw these; their text is about the protocol and reveals nothing.
  if (thrown instanceof ConnectError && thrown.code !== Code.Internal && thrown.code !== Code.Unknown) {
    return new CallFailure(thrown.code, thrown.rawMessage, { cause: thrown });
  }
  const { reason, message, violations, retryAfterMs } = thrown instanceof SessionError ? thrown : UNEXPECTED;
  const code = CODE_OF_REASON[reason];
  const details: FailureDetail[] = [{ desc: ErrorInfoSchema, value: { reason, domain: ERROR_DOMAIN } }];
  if (violations.length > 0) {
    details.push({ desc: BadRequestSchema, value: { fieldViolations: limitViolations(violations) } });
  }
  if (retryAfterMs !== undefined || code === Code.Unavailable) {
    // Without jitter, all callers of a store that failed would retry in the same instant.
    const delayMs = (retryAfterMs ?? DEFAULT_RETRY_AFTER_MS) * (1 + Math.random());
    details.push({ desc: RetryInfoSchema, value: { retryDelay: durationFromMs(Math.ceil(delayMs)) } });
  }
  const text = reason === "INTERNAL" ? "internal error" : message;
  return new CallFailure(code, text, { reason, details, cause: thrown });
}

function limitViolations(violations: readonly FieldViolation[]): FieldViolation[] {
  const kept: FieldViolation[] = [];
  let chars = 0;
  for (const violation of violations) {
    const field = cut(violation.field, MAX_FIELD_CHARS);
    const description = cut(violation.description, MAX_FIELD_CHARS);
    chars += field.length + description.length;
    if (chars > MAX_VIOLATION_CHARS) break;
    kept.push({ field, description });
  }
  return kept;
}

function cut(text: string, maxChars: number): string {
  return (text.length > maxChars ? `${text.slice(0, maxChars)}…` : text).toWellFormed();
}

/** The form for @grpc/grpc-js: the details are a google.rpc.Status in a trailer. */
export function toGrpcStatus(failure: CallFailure): StatusObject {
  const metadata = new Metadata();
  const { code, message } = failure;
  if (failure.details.length > 0) {
    const details = failure.details.map(({ desc, value }) => anyPack(desc, create(desc, value)));
    const bytes = toBinary(StatusSchema, create(StatusSchema, { code, message, details }));
    metadata.set("grpc-status-details-bin", Buffer.from(bytes));
  }
  return { code: code as number, details: message, metadata };
}

/** The form for connect's protocols: the same code, message and details. */
export function toConnectError(failure: CallFailure): ConnectError {
  return new ConnectError(failure.message, failure.code, undefined, [...failure.details]);
}
