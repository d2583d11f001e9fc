// Sessions between the store's form and the contract's.

import { create, fromBinary, toBinary, type JsonObject } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { SessionSchema, type Device, type Session } from "../../gen/session/v1/session_pb.ts";
import { invalidField } from "../domain/errors.ts";
import { DATA_MAX_BYTES, dataFault } from "../domain/session_data.ts";
import type { SessionRecord } from "../store/session_record.ts";
import type { StoredSession } from "../store/stored_session.ts";

// The record's identity and data segments are encoded Sessions of their own: protobuf merges concatenated messages, so
// decoding both at once, as they stand one after the other, gives one Session; its other columns come from the record's header.

/** The contract's form of a stored session. */
export function sessionMessage(record: SessionRecord, fields: Iterable<readonly [string, string]> = []): Session {
  const session = fromBinary(SessionSchema, record.contractBytes);
  session.sessionId = record.sessionId;
  session.version = record.version;
  session.createdAt = timestampFromMs(record.createdMs);
  session.lastAccessedAt = timestampFromMs(record.lastAccessedMs);
  session.expiresAt = timestampFromMs(record.expiresMs);
  session.absoluteExpiresAt = timestampFromMs(record.absoluteExpiresMs);
  session.userId = record.userId;
  // Object.fromEntries defines own properties, so a field named __proto__ stays a field.
  session.fields = Object.fromEntries(fields);
  return session;
}

/** The same, with the fields of a hash session. */
export function storedSessionMessage(stored: StoredSession): Session {
  return sessionMessage(stored.record, stored.fields);
}

/** The identity segment of a record. */
export function encodeIdentity(
  login: { ipAddress: string; userAgent: string },
  device: Device | undefined,
): Uint8Array {
  const { ipAddress, userAgent } = login;
  return toBinary(SessionSchema, create(SessionSchema, { ipAddress, userAgent, device }));
}

/** The data segment of a record; throws INVALID_REQUEST for data that no session may have. */
export function encodeData(data: JsonObject | undefined): Uint8Array {
  if (data === undefined) return new Uint8Array();
  const fault = dataFault(data);
  if (fault !== undefined) throw invalidField("data", fault);
  const segment = toBinary(SessionSchema, create(SessionSchema, { data }));
  if (segment.length - SEGMENT_PREFIX_BYTES > DATA_MAX_BYTES) {
    throw invalidField("data", `is more than ${DATA_MAX_BYTES} bytes encoded`);
  }
  return segment;
}

// Field tag and length, for data of 16 KiB and more.
const SEGMENT_PREFIX_BYTES = 4;

/** The data of a record; undefined when it has none. */
export function decodeData(record: SessionRecord): JsonObject | undefined {
  return fromBinary(SessionSchema, record.data).data;
}
