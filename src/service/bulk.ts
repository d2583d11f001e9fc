// Bulk validation: BatchValidate, ValidateStream.

import type { ValidateEntry } from "../../gen/session/v1/bulk_pb.ts";
import type { CallContext } from "../domain/call.ts";
import { answerFeed, type Asked } from "./answer_feed.ts";
import type { DirectImpl, SessionServiceImpl } from "./contract.ts";
import { entryQuestions } from "./question_bytes.ts";
import { validationsBytes } from "./validation_bytes.ts";
import { validationMessage } from "./validation_message.ts";
import type { Question, Validate, Validation } from "./validator.ts";

type BulkDeps = {
  readonly validate: Validate;
  /** How long one message of a stream may take. */
  readonly requestTimeoutMs: number;
};

export function createBulkService({ validate, requestTimeoutMs }: BulkDeps) {
  const methods = {
    async batchValidate(request, call) {
      return validationsMessage(await validateAll(request.entries.map(questionOf), call));
    },

    async *validateStream(requests, call) {
      const asked = eachAsked(requests, ({ entries }) => entries.map(questionOf), call);
      yield answerFeed(asked, validationsMessage);
    },
  } satisfies SessionServiceImpl;

  const direct = {
    batchValidate(request, call) {
      const questions = entryQuestions(request);
      return questions && validateAll(questions, call).then(validationsBytes);
    },

    async *validateStream(requests, decode, call) {
      const asked = eachAsked(
        requests,
        (bytes) => entryQuestions(bytes) ?? decode(bytes).entries.map(questionOf),
        call,
      );
      yield answerFeed(asked, validationsBytes);
    },
  } satisfies DirectImpl;

  function validateAll(questions: readonly Question[], call: CallContext): Promise<Validation[]> {
    return Promise.all(questions.map((question) => validate(question, call)));
  }

  async function* eachAsked<T>(
    requests: AsyncIterable<T>,
    questionsOf: (request: T) => Question[],
    { caller, signal, deadlineMs }: CallContext,
  ): AsyncIterable<Asked> {
    for await (const request of requests) {
      const call = { caller, signal, deadlineMs: Math.min(deadlineMs, performance.now() + requestTimeoutMs) };
      yield { questions: questionsOf(request), answer: (question) => validate(question, call) };
    }
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
