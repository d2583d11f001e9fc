// A validation's result as a response message: ValidateTokenResponse and ValidateResult have the same fields.

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

/** Dead, unknown, malformed and foreign credentials are indistinguishable, so the response reveals nothing. */
const INVALID: ValidationResponse = { verdict: Verdict.INVALID };

export function toValidationResponse(result: ValidationResult): ValidationResponse {
  if (result === undefined) return INVALID;
  const { record, ipMismatch, expiresInMs } = result;
  return {
    verdict: Verdict.VALID,
    session: sessionMessage(record),
    ipMismatch,
    expiresIn: expiresInMs === undefined ? undefined : durationFromMs(expiresInMs),
  };
}
