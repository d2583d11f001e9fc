// Reads records by plain GET and MGET: all reads of one turn of the event loop share a command.

import { setMaxListeners } from "node:events";
import type { CallContext } from "../domain/call.ts";
import { ownerPrefixOf } from "../domain/owner.ts";
import type { StoreConnection, StoreReply } from "./connection/connection.ts";
import { recordKey } from "./keys.ts";
import { SessionRecord } from "./session_record.ts";

type Records = readonly (SessionRecord | undefined)[];

/**
 * Returns the records of live sessions of any kind in the order of their ids; undefined stands for an id that the caller's
 * tenant does not have. An id that was regenerated with a grace leads to its successor. Slides no idle timeout.
 * @throws what StoreConnection.send throws.
 */
export type RecordReader = (sessionIds: readonly string[], call: CallContext) => Promise<Records>;

/** One call of the reader. */
type ReadRequest = {
  readonly records: (SessionRecord | undefined)[];
  readonly ownerPrefix: string;
  readonly deadlineMs: number;
  readonly resolve: (records: Records) => void;
  readonly reject: (error: unknown) => void;
  missing: number;
};

/** One key of a request; `index` is the place of its record among the request's. */
type PendingRead = {
  readonly key: string;
  readonly sessionId: string;
  readonly request: ReadRequest;
  readonly index: number;
};

/** Bounds one command, because the store serves no other client while it runs. */
const KEYS_PER_COMMAND = 128;

/**
 * A command has the latest deadline of the requests that share it. The host of a call ends the call by its own deadline, and
 * when its caller has gone.
 */
export function createRecordReader(connection: Pick<StoreConnection, "send" | "url">): RecordReader {
  // In a cluster, the keys of one command must be in one slot.
  const keysPerCommand = connection.url.kind === "cluster" ? 1 : KEYS_PER_COMMAND;
  const { signal } = new AbortController();
  setMaxListeners(0, signal);
  let pending: PendingRead[] = [];

  function enqueue(sessionId: string, request: ReadRequest, index: number): void {
    const key = recordKey(sessionId);
    if (key === undefined) return putRecord(request, index, undefined);
    if (pending.length === 0) setImmediate(sendAll);
    pending.push({ key, sessionId, request, index });
  }

  function sendAll(): void {
    const reads = pending;
    pending = [];
    for (let i = 0; i < reads.length; i += keysPerCommand) {
      send(reads.length <= keysPerCommand ? reads : reads.slice(i, i + keysPerCommand));
    }
  }

  function send(reads: readonly PendingRead[]): void {
    const { args, deadlineMs } = commandOf(reads);
    connection.send(args[1]!, args, { deadlineMs, signal }).then(
      (reply) => {
        const records = reads.length === 1 ? [reply] : (reply as StoreReply[]);
        for (let i = 0; i < reads.length; i++) receive(reads[i]!, records[i] as Buffer | null);
      },
      (error: unknown) => {
        for (const { request } of reads) request.reject(error);
      },
    );
  }

  function receive({ sessionId, request, index }: PendingRead, bytes: Buffer | null): void {
    if (bytes === null) return putRecord(request, index, undefined);
    try {
      const record = new SessionRecord(sessionId, bytes);
      if (!record.isOwnedBy(request.ownerPrefix)) putRecord(request, index, undefined);
      else if (record.forwardsTo === undefined) putRecord(request, index, record);
      else enqueue(record.forwardsTo, request, index);
    } catch (error) {
      request.reject(error);
    }
  }

  return (sessionIds, call) =>
    new Promise((resolve, reject) => {
      const missing = sessionIds.length;
      const { deadlineMs } = call;
      const ownerPrefix = ownerPrefixOf(call.principal.tenant);
      const request: ReadRequest = { records: Array(missing), ownerPrefix, deadlineMs, resolve, reject, missing };
      for (let index = 0; index < missing; index++) enqueue(sessionIds[index]!, request, index);
    });
}

function commandOf(reads: readonly PendingRead[]): { args: string[]; deadlineMs: number } {
  const args = [reads.length === 1 ? "GET" : "MGET"];
  let deadlineMs = 0;
  for (const { key, request } of reads) {
    args.push(key);
    deadlineMs = Math.max(deadlineMs, request.deadlineMs);
  }
  return { args, deadlineMs };
}

function putRecord(request: ReadRequest, index: number, record: SessionRecord | undefined): void {
  request.records[index] = record;
  if (--request.missing === 0) request.resolve(request.records);
}
