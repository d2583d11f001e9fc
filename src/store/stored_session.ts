// A session as the scripts return it: its record and its fields.

import type { StoreReply } from "./connection/store_client.ts";
import { SessionRecord } from "./session_record.ts";

export type StoredSession = { readonly record: SessionRecord; readonly fields: ReadonlyMap<string, string> };

/**
 * A session of a tenant, without its fields if the list is ordered. A list that begins after `position` goes on with the next
 * session. Positions consist of base64url characters.
 */
export type TenantSession = { readonly stored: StoredSession; readonly position: string };

/** Decodes session_id, record and fields, the values of an `ok` reply; a script may leave out the fields. */
export function storedSessionFromReply([sessionId, record, fields = []]: readonly StoreReply[]): StoredSession {
  return { record: new SessionRecord(String(sessionId), record as Buffer), fields: fieldsFromReply(fields) };
}

/** Decodes a flat list of names and values. */
export function fieldsFromReply(reply: StoreReply | undefined): Map<string, string> {
  const list = reply as readonly Buffer[];
  const fields = new Map<string, string>();
  for (let i = 0; i < list.length; i += 2) fields.set(list[i]!.toString(), list[i + 1]!.toString());
  return fields;
}
