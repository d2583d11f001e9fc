// The answer to "is it valid?" as a message: ValidateTokenResponse and ValidateResult have the same fields.

import { durationFromMs, type Duration } from "@bufbuild/protobuf/wkt";
import { Verdict, type Session } from "../../../gen/session/v1/session_pb.ts";
import { sessionMessage } from "../session_message.ts";
import type { ValidationResult } from "./validator.ts";

export type ValidationResponse = {
  readonly verdict: Verdict;
  readonly session?: Session;
  readonly ipMismatch?: boolean;
  readonly expiresIn?: Duration;
};

/** The answer for every dead, unknown, malformed or foreign session: always the same bytes. */
const INVALID: ValidationResponse = { verdict: Verdict.INVALID };

export function toValidationResponse(validation: ValidationResult): ValidationResponse {
  if (validation === undefined) return INVALID;
  const { record, ipMismatch, expiresInMs } = validation;
  return {
    verdict: Verdict.VALID,
    session: sessionMessage(record),
    ipMismatch,
    expiresIn: expiresInMs === undefined ? undefined : durationFromMs(expiresInMs),
  };
}
