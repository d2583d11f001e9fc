// Bulk validation: BatchValidate, ValidateStream.

import type { ValidateEntry, ValidateStreamRequest } from "../../gen/session/v1/bulk_pb.ts";
import type { CallContext } from "../domain/call.ts";
import type { SessionServiceImpl } from "./contract.ts";
import type { Validator } from "./validator.ts";

/** Messages of one stream that are worked on at once; the next is not read before one of them is answered. */
const MESSAGES_AT_ONCE = 16;

type BulkDeps = {
  readonly validator: Validator;
  /** How long one message of a stream may take. */
  readonly requestTimeoutMs: number;
};

export function createBulkService({ validator, requestTimeoutMs }: BulkDeps) {
  return {
    async batchValidate(request, call) {
      return { results: await validateAll(request.entries, call) };
    },

    // Answers keep the order of the questions, while the store is asked for several messages at once.
    async *validateStream(requests, call) {
      const underway: Promise<Awaited<ReturnType<typeof answer>>>[] = [];
      try {
        for await (const request of requests) {
          const answering = answer(request, call);
          // Told when its turn comes.
          answering.catch(() => undefined);
          underway.push(answering);
          if (underway.length >= MESSAGES_AT_ONCE) yield await underway.shift()!;
        }
        while (underway.length > 0) yield await underway.shift()!;
      } finally {
        underway.length = 0;
      }
    },
  } satisfies SessionServiceImpl;

  async function answer(request: ValidateStreamRequest, call: CallContext) {
    const deadlineMs = Math.min(call.deadlineMs, performance.now() + requestTimeoutMs);
    return { results: await validateAll(request.entries, { caller: call.caller, signal: call.signal, deadlineMs }) };
  }

  function validateAll(entries: readonly ValidateEntry[], call: CallContext) {
    return Promise.all(entries.map((entry) => validateEntry(entry, call)));
  }

  function validateEntry({ handle, touch, ipAddress }: ValidateEntry, call: CallContext) {
    if (handle.case === "token") return validator.byToken(handle.value, touch, ipAddress, call);
    return validator.byId(handle.value ?? "", touch, ipAddress, call);
  }
}
