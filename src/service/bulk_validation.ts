// Bulk validation: BatchValidate, ValidateStream.

import type { ValidateEntry, ValidateStreamRequest } from "../../gen/session/v1/bulk_validation_pb.ts";
import type { CallContext } from "../domain/call.ts";
import { fromAsyncIterable } from "../lib/push_stream.ts";
import { orderedResponses, type SubmittedBatch } from "./validation/ordered_responses.ts";
import type { EncodedHandlers, SessionServiceImpl } from "./handlers.ts";
import { decodeValidateEntries } from "./validation/request_decoding.ts";
import { encodeBatchValidateResponse } from "./validation/response_encoding.ts";
import { toValidationResponse } from "./validation/response_message.ts";
import type { ValidationRequest, SessionValidator, ValidationResult } from "./validation/validator.ts";

type BulkDeps = {
  readonly validate: SessionValidator;
  /** How long one message of a stream may take. */
  readonly requestTimeoutMs: number;
};

export function createBulkValidationService({ validate, requestTimeoutMs }: BulkDeps) {
  const methods = {
    async batchValidate(request, call) {
      return validationsMessage(await validate.validateAll(request.entries.map(questionOf), call));
    },

    async *validateStream(requests, call) {
      const ask = askedOf<ValidateStreamRequest>(({ entries }) => entries.map(questionOf), call);
      yield orderedResponses(fromAsyncIterable(requests), ask, validationsMessage);
    },
  } satisfies SessionServiceImpl;

  const direct = {
    batchValidate(request, call) {
      const questions = decodeValidateEntries(request);
      return questions && validate.validateAll(questions, call).then(encodeBatchValidateResponse);
    },

    async *validateStream(requests, decode, call) {
      const ask = askedOf<Buffer>(
        (bytes) => decodeValidateEntries(bytes) ?? decode(bytes).entries.map(questionOf),
        call,
      );
      yield orderedResponses(requests, ask, encodeBatchValidateResponse);
    },
  } satisfies EncodedHandlers;

  function askedOf<Request>(questionsOf: (request: Request) => ValidationRequest[], call: CallContext) {
    return (request: Request): SubmittedBatch => {
      const questions = questionsOf(request);
      return { questions: questions.length, answers: validate.validateAll(questions, budgetOf(call)) };
    };
  }

  /** Of one message of a stream. */
  function budgetOf({ principal: caller, signal, deadlineMs }: CallContext): CallContext {
    return { principal: caller, signal, deadlineMs: Math.min(deadlineMs, performance.now() + requestTimeoutMs) };
  }

  return { methods, direct };
}

function questionOf({ handle, touch, ipAddress }: ValidateEntry): ValidationRequest {
  const proof = handle.case === "token" ? "token" : "id";
  return { credentialKind: proof, credential: handle.value ?? "", touch, ipAddress };
}

function validationsMessage(validations: readonly ValidationResult[]) {
  return { results: validations.map(toValidationResponse) };
}
