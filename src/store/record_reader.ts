// Reading records: what is asked for in one turn of the event loop is asked of the store in one command.

import { setMaxListeners } from "node:events";
import type { CallDeadline } from "../domain/call.ts";
import type { StoreConnection, StoreReply } from "./connection/connection.ts";
import { recordKey } from "./keys.ts";
import { SessionRecord } from "./session_record.ts";

type Records = readonly (SessionRecord | undefined)[];

/**
 * The records of live sessions, in the order of their ids; undefined for one that is not there, or whose owner does not begin
 * with `ownerPrefix`. An id that was regenerated with a grace leads to its successor.
 * @throws what StoreConnection.send throws.
 */
export type RecordReader = (sessionIds: readonly string[], ownerPrefix: string, call: CallDeadline) => Promise<Records>;

/** What one caller waits for. */
type ReadRequest = {
  readonly records: (SessionRecord | undefined)[];
  readonly ownerPrefix: string;
  readonly call: CallDeadline;
  readonly resolve: (records: Records) => void;
  readonly reject: (error: unknown) => void;
  missing: number;
};

type PendingRead = {
  readonly key: string;
  readonly sessionId: string;
  readonly group: ReadRequest;
  readonly index: number;
};

/** Of one command: the store serves nobody else meanwhile. */
const KEYS_PER_COMMAND = 128;

/**
 * A wait ends with the latest deadline of those that share its command: a caller whose own is sooner, or who is gone, is
 * let go by the host of its call.
 */
export function createRecordReader(connection: Pick<StoreConnection, "send" | "url">): RecordReader {
  // The keys of one command may be in one slot only.
  const keysPerCommand = connection.url.kind === "cluster" ? 1 : KEYS_PER_COMMAND;
  const { signal } = new AbortController();
  setMaxListeners(0, signal);
  let waits: PendingRead[] = [];

  function sendAll(): void {
    const taken = waits;
    waits = [];
    for (let i = 0; i < taken.length; i += keysPerCommand) {
      send(taken.length <= keysPerCommand ? taken : taken.slice(i, i + keysPerCommand));
    }
  }

  function send(together: readonly PendingRead[]): void {
    const alone = together.length === 1;
    const args = [alone ? "GET" : "MGET"];
    let deadlineMs = 0;
    for (const { key, group } of together) {
      args.push(key);
      deadlineMs = Math.max(deadlineMs, group.call.deadlineMs);
    }
    connection.send(args[1]!, args, { deadlineMs, signal }).then(
      (reply) => {
        const records = alone ? [reply] : (reply as StoreReply[]);
        for (let i = 0; i < together.length; i++) settle(together[i]!, records[i] as Buffer | null);
      },
      (error: unknown) => {
        for (const { group } of together) group.reject(error);
      },
    );
  }

  function settle({ sessionId, group, index }: PendingRead, bytes: Buffer | null): void {
    if (bytes === null) return put(group, index, undefined);
    try {
      const record = new SessionRecord(sessionId, bytes);
      if (!record.isOwnedBy(group.ownerPrefix)) put(group, index, undefined);
      else if (record.forwardsTo === undefined) put(group, index, record);
      else ask(record.forwardsTo, group, index);
    } catch (error) {
      group.reject(error);
    }
  }

  function put(group: ReadRequest, index: number, record: SessionRecord | undefined): void {
    group.records[index] = record;
    if (--group.missing === 0) group.resolve(group.records);
  }

  function ask(sessionId: string, group: ReadRequest, index: number): void {
    const key = recordKey(sessionId);
    if (key === undefined) return put(group, index, undefined);
    if (waits.length === 0) setImmediate(sendAll);
    waits.push({ key, sessionId, group, index });
  }

  return (sessionIds, ownerPrefix, call) =>
    new Promise((resolve, reject) => {
      const missing = sessionIds.length;
      const group: ReadRequest = { records: Array(missing), ownerPrefix, call, resolve, reject, missing };
      for (let index = 0; index < missing; index++) ask(sessionIds[index]!, group, index);
    });
}
