// What the operations' scripts take and answer, in TypeScript's terms.

import type { CallContext } from "../domain/call.ts";
import { SessionError } from "../domain/errors.ts";
import type { StoreReply } from "./connection/connection.ts";
import { SessionRecord } from "./session_record.ts";
import type { StoredSession } from "./simple_sessions.ts";

/** The actor as scripts take it: percent-encoded, so that it is one word of a change. */
export function actorArg(call: CallContext): string {
  return encodeURIComponent(call.principal.name);
}

/** A session from the session_id, the record and, if any, the flat list of fields that a script answered. */
export function storedSessionFromReply([sessionId, record, fields = []]: readonly StoreReply[]): StoredSession {
  return { record: new SessionRecord(String(sessionId), record as Buffer), fields: fieldsFromReply(fields) };
}

/** Fields from a flat list of names and values. */
export function fieldsFromReply(reply: StoreReply | undefined): Map<string, string> {
  const list = reply as readonly Buffer[];
  const fields = new Map<string, string>();
  for (let i = 0; i < list.length; i += 2) fields.set(list[i]!.toString(), list[i + 1]!.toString());
  return fields;
}

export function sessionNotFound(): SessionError {
  return new SessionError("SESSION_NOT_FOUND", "there is no such session");
}

/** A script and its caller disagree: a fault of ours. */
export function unexpectedTag(tag: string): Error {
  return new Error(`unexpected reply of a script: ${tag}`);
}

export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
