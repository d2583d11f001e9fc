// Bulk validation: BatchValidate, ValidateStream.

import type { ValidateStreamRequest } from "../../gen/session/v1/bulk_validation_pb.ts";
import type { CallContext } from "../domain/call.ts";
import { fromAsyncIterable } from "../lib/push_stream.ts";
import type { ServiceDependencies } from "./dependencies.ts";
import type { EncodedHandlers, SessionServiceImpl } from "./handlers.ts";
import { orderedResponses, type SubmittedBatch } from "./validation/ordered_responses.ts";
import { decodeValidateEntries, fromValidateEntry } from "./validation/request_decoding.ts";
import { encodeBatchValidateResponse, toValidationResponse } from "./validation/response_encoding.ts";
import type { ValidationRequest, ValidationResult } from "./validation/validator.ts";

export function createBulkValidationService({ validator, requestTimeoutMs }: ServiceDependencies) {
  const methods = {
    async batchValidate(request, call) {
      return resultsMessage(await validator.validateAll(request.entries.map(fromValidateEntry), call));
    },

    async *validateStream(requests, call) {
      const submit = submitTo<ValidateStreamRequest>(({ entries }) => entries.map(fromValidateEntry), call);
      yield orderedResponses(fromAsyncIterable(requests), submit, resultsMessage);
    },
  } satisfies SessionServiceImpl;

  const encodedHandlers = {
    batchValidate(request, call) {
      const entries = decodeValidateEntries(request);
      return entries && validator.validateAll(entries, call).then(encodeBatchValidateResponse);
    },

    async *validateStream(requests, decode, call) {
      const submit = submitTo<Buffer>(
        (bytes) => decodeValidateEntries(bytes) ?? decode(bytes).entries.map(fromValidateEntry),
        call,
      );
      yield orderedResponses(requests, submit, encodeBatchValidateResponse);
    },
  } satisfies EncodedHandlers;

  function submitTo<Request>(entriesOf: (request: Request) => ValidationRequest[], call: CallContext) {
    return (request: Request): SubmittedBatch => {
      const entries = entriesOf(request);
      const deadlineMs = Math.min(call.deadlineMs, performance.now() + requestTimeoutMs);
      const { principal, signal } = call;
      return {
        entryCount: entries.length,
        results: validator.validateAll(entries, { principal, signal, deadlineMs }),
      };
    };
  }

  return { methods, encodedHandlers };
}

function resultsMessage(results: readonly ValidationResult[]) {
  return { results: results.map(toValidationResponse) };
}
