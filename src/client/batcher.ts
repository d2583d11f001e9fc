// The batcher: lookups of one turn of the event loop travel as one BatchValidate request.

import type { MessageInitShape } from "@bufbuild/protobuf";
import type { BatchValidateRequestSchema, ValidateResult } from "../../gen/session/v1/bulk_validation_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import type { ServiceConnection } from "./connection.ts";

export type ValidateEntryInit = NonNullable<MessageInitShape<typeof BatchValidateRequestSchema>["entries"]>[number];

/** Resolves with the result of one entry; rejects with the error of the request that carried it. */
export type ValidateEntry = (entry: ValidateEntryInit) => Promise<ValidateResult>;

type PendingLookup = {
  readonly entry: ValidateEntryInit;
  readonly resolve: (result: ValidateResult) => void;
  readonly reject: (error: unknown) => void;
};

/** Keeps a request of entries of the greatest length below the service's limit of 256 KiB. */
const MAX_ENTRIES = 400;

export function createBatcher(connection: ServiceConnection, timeoutMs: number): ValidateEntry {
  let pending: PendingLookup[] = [];

  async function send(batch: readonly PendingLookup[]): Promise<void> {
    try {
      const entries = batch.map(({ entry }) => entry);
      const { results } = await connection.unary(SessionService.method.batchValidate, { entries }, timeoutMs);
      batch.forEach(({ resolve }, index) => resolve(results[index]!));
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }

  function flush(): void {
    const lookups = pending;
    pending = [];
    for (let i = 0; i < lookups.length; i += MAX_ENTRIES) void send(lookups.slice(i, i + MAX_ENTRIES));
  }

  return (entry) =>
    new Promise((resolve, reject) => {
      if (pending.length === 0) setImmediate(flush);
      pending.push({ entry, resolve, reject });
    });
}
