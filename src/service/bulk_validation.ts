// Bulk validation: BatchValidate, ValidateStream.

import type { ValidateEntry, ValidateStreamRequest } from "../../gen/session/v1/bulk_validation_pb.ts";
import type { CallContext } from "../domain/call.ts";
import { pushed } from "../lib/push_stream.ts";
import { answerFeed, type Asked } from "./validation/ordered_responses.ts";
import type { DirectImpl, SessionServiceImpl } from "./handlers.ts";
import { entryQuestions } from "./validation/request_decoding.ts";
import { validationsBytes } from "./validation/response_encoding.ts";
import { validationMessage } from "./validation/response_message.ts";
import type { Question, Validate, Validation } from "./validation/validator.ts";

type BulkDeps = {
  readonly validate: Validate;
  /** How long one message of a stream may take. */
  readonly requestTimeoutMs: number;
};

export function createBulkService({ validate, requestTimeoutMs }: BulkDeps) {
  const methods = {
    async batchValidate(request, call) {
      return validationsMessage(await validate.all(request.entries.map(questionOf), call));
    },

    async *validateStream(requests, call) {
      const ask = askedOf<ValidateStreamRequest>(({ entries }) => entries.map(questionOf), call);
      yield answerFeed(pushed(requests), ask, validationsMessage);
    },
  } satisfies SessionServiceImpl;

  const direct = {
    batchValidate(request, call) {
      const questions = entryQuestions(request);
      return questions && validate.all(questions, call).then(validationsBytes);
    },

    async *validateStream(requests, decode, call) {
      const ask = askedOf<Buffer>((bytes) => entryQuestions(bytes) ?? decode(bytes).entries.map(questionOf), call);
      yield answerFeed(requests, ask, validationsBytes);
    },
  } satisfies DirectImpl;

  function askedOf<Request>(questionsOf: (request: Request) => Question[], call: CallContext) {
    return (request: Request): Asked => {
      const questions = questionsOf(request);
      return { questions: questions.length, answers: validate.all(questions, budgetOf(call)) };
    };
  }

  /** Of one message of a stream. */
  function budgetOf({ caller, signal, deadlineMs }: CallContext): CallContext {
    return { caller, signal, deadlineMs: Math.min(deadlineMs, performance.now() + requestTimeoutMs) };
  }

  return { methods, direct };
}

function questionOf({ handle, touch, ipAddress }: ValidateEntry): Question {
  const proof = handle.case === "token" ? "token" : "id";
  return { proof, handle: handle.value ?? "", touch, ipAddress };
}

function validationsMessage(validations: readonly Validation[]) {
  return { results: validations.map(validationMessage) };
}
