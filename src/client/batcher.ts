// The batcher: lookups of one turn of the event loop travel as one BatchValidate request, and equal ones as one entry of it.

import { setImmediate as endOfTurn } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { BatchValidateRequestSchema, ValidateResult } from "../../gen/session/v1/bulk_validation_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import type { ServiceConnection } from "./connection.ts";

export type ValidateEntryInit = NonNullable<MessageInitShape<typeof BatchValidateRequestSchema>["entries"]>[number];

/**
 * Resolves with the result of one entry; rejects with the error of the request that carried it. Entries with the same key are
 * equal.
 */
export type ValidateEntry = (key: string, entry: ValidateEntryInit) => Promise<ValidateResult>;

type Batch = {
  readonly entries: ValidateEntryInit[];
  /** The index of each entry by its key. */
  readonly indexes: Map<string, number>;
  readonly results: Promise<ValidateResult[]>;
};

/** Keeps a request of entries of the greatest length below the service's limit of 256 KiB. */
const MAX_ENTRIES = 400;

export function createBatcher(connection: ServiceConnection, timeoutMs: number): ValidateEntry {
  // The batch that is not sent yet, if there is one.
  let batch: Batch | undefined;

  async function send(entries: ValidateEntryInit[]): Promise<ValidateResult[]> {
    await endOfTurn();
    batch = undefined;
    const { results } = await connection.unary(SessionService.method.batchValidate, { entries }, timeoutMs);
    return results;
  }

  return async (key, entry) => {
    if (batch === undefined || batch.entries.length === MAX_ENTRIES) {
      const entries: ValidateEntryInit[] = [];
      batch = { entries, indexes: new Map(), results: send(entries) };
    }
    const { entries, indexes, results } = batch;
    let index = indexes.get(key);
    if (index === undefined) indexes.set(key, (index = entries.push(entry) - 1));
    return (await results)[index]!;
  };
}
