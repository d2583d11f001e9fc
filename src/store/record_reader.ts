// Reading records: what is asked for in one turn of the event loop is asked of the store in one command.

import { setMaxListeners } from "node:events";
import type { CallBudget } from "../domain/call.ts";
import type { StoreConnection, StoreReply } from "./connection.ts";
import { recordKey } from "./keys.ts";
import { SessionRecord } from "./record.ts";

/**
 * The record of a live session whose owner begins with `ownerPrefix`; undefined when there is none. An id that was
 * regenerated with a grace leads to its successor.
 * @throws what StoreConnection.send throws.
 */
export type RecordReader = (
  sessionId: string,
  ownerPrefix: string,
  call: CallBudget,
) => Promise<SessionRecord | undefined>;

type Wait = {
  readonly key: string;
  readonly sessionId: string;
  readonly ownerPrefix: string;
  readonly call: CallBudget;
  readonly resolve: (record: SessionRecord | undefined | Promise<SessionRecord | undefined>) => void;
  readonly reject: (error: unknown) => void;
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
  let waits: Wait[] = [];

  function sendAll(): void {
    const taken = waits;
    waits = [];
    for (let i = 0; i < taken.length; i += keysPerCommand) {
      send(taken.length <= keysPerCommand ? taken : taken.slice(i, i + keysPerCommand));
    }
  }

  function send(together: readonly Wait[]): void {
    const alone = together.length === 1;
    const args = [alone ? "GET" : "MGET"];
    let deadlineMs = 0;
    for (const { key, call } of together) {
      args.push(key);
      deadlineMs = Math.max(deadlineMs, call.deadlineMs);
    }
    connection.send(args[1]!, args, { deadlineMs, signal }).then(
      (reply) => {
        const records = alone ? [reply] : (reply as StoreReply[]);
        for (const [i, wait] of together.entries()) settle(wait, records[i] as Buffer | null);
      },
      (error: unknown) => {
        for (const wait of together) wait.reject(error);
      },
    );
  }

  function settle({ sessionId, ownerPrefix, call, resolve, reject }: Wait, bytes: Buffer | null): void {
    if (bytes === null) return resolve(undefined);
    try {
      const record = new SessionRecord(sessionId, bytes);
      if (!record.isOwnedBy(ownerPrefix)) return resolve(undefined);
      resolve(record.forwardsTo === undefined ? record : read(record.forwardsTo, ownerPrefix, call));
    } catch (error) {
      reject(error);
    }
  }

  function read(sessionId: string, ownerPrefix: string, call: CallBudget): Promise<SessionRecord | undefined> {
    return new Promise((resolve, reject) => {
      const key = recordKey(sessionId);
      if (key === undefined) return resolve(undefined);
      if (waits.length === 0) setImmediate(sendAll);
      waits.push({ key, sessionId, ownerPrefix, call, resolve, reject });
    });
  }

  return read;
}
