// The batcher: questions asked in one tick travel as one message.

import type { MessageInitShape } from "@bufbuild/protobuf";
import type { BatchValidateRequestSchema, ValidateResult } from "../../gen/session/v1/bulk_validation_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import type { Connection } from "./connection.ts";

export type Question = NonNullable<MessageInitShape<typeof BatchValidateRequestSchema>["entries"]>[number];

type Waiting = {
  readonly question: Question;
  readonly resolve: (result: ValidateResult) => void;
  readonly reject: (error: unknown) => void;
};

/** The longest texts allowed, in so many questions, stay below the 256 KiB that the service takes in one message. */
const MAX_ENTRIES = 400;

/** Asks the service; rejects when it could not tell. */
export function createBatcher(
  connection: Connection,
  timeoutMs: number,
): (question: Question) => Promise<ValidateResult> {
  let waiting: Waiting[] = [];

  async function send(batch: readonly Waiting[]): Promise<void> {
    try {
      const entries = batch.map(({ question }) => question);
      const { results } = await connection.unary(SessionService.method.batchValidate, { entries }, timeoutMs);
      batch.forEach(({ resolve }, index) => resolve(results[index]!));
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }

  function flush(): void {
    const all = waiting;
    waiting = [];
    for (let i = 0; i < all.length; i += MAX_ENTRIES) void send(all.slice(i, i + MAX_ENTRIES));
  }

  return (question) =>
    new Promise((resolve, reject) => {
      if (waiting.length === 0) setImmediate(flush);
      waiting.push({ question, resolve, reject });
    });
}
