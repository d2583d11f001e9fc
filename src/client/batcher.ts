// The batcher: questions asked in one tick travel as one message.

import type { MessageInitShape } from "@bufbuild/protobuf";
import type { BatchValidateRequestSchema, ValidateResult } from "../../gen/session/v1/bulk_validation_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import type { ServiceConnection } from "./connection.ts";

export type ValidateEntryInit = NonNullable<MessageInitShape<typeof BatchValidateRequestSchema>["entries"]>[number];

type PendingLookup = {
  readonly question: ValidateEntryInit;
  readonly resolve: (result: ValidateResult) => void;
  readonly reject: (error: unknown) => void;
};

/** The longest texts allowed, in so many questions, stay below the 256 KiB that the service takes in one message. */
const MAX_ENTRIES = 400;

/** Asks the service; rejects when it could not tell. */
export function createBatcher(
  connection: ServiceConnection,
  timeoutMs: number,
): (question: ValidateEntryInit) => Promise<ValidateResult> {
  let waiting: PendingLookup[] = [];

  async function send(batch: readonly PendingLookup[]): Promise<void> {
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
