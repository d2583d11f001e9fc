// Converts sessions from the store's form to the contract's and back.

import { create, fromBinary, toBinary, type JsonObject } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  AuthenticationSchema,
  CredentialKind,
  IpBinding,
  SessionSchema,
  type Authentication,
  type Device,
  type Session,
} from "../../gen/session/v1/session_pb.ts";
import { invalidField } from "../domain/errors.ts";
import { DATA_MAX_BYTES, dataFault } from "../domain/session_data.ts";
import { IP_BINDING, type SessionRecord } from "../store/session_record.ts";
import type { StoredSession } from "../store/stored_session.ts";

/** The field tag and the length before the data, which has 16 KiB or more where this matters. */
const SEGMENT_PREFIX_BYTES = 4;

// A record's identity, data and labels are encoded Sessions. Protobuf merges concatenated messages, so decoding them at once gives
// one Session; the record's header, owner and authentication supply its other fields.

/** Returns a session as a message, with its fields if they are given. */
export function sessionMessage({ record, fields }: Pick<StoredSession, "record"> & Partial<StoredSession>): Session {
  const session = fromBinary(SessionSchema, record.contractBytes);
  session.sessionId = record.sessionId;
  session.version = record.version;
  session.createTime = timestampFromMs(record.createdMs);
  session.lastAccessTime = timestampFromMs(record.lastAccessedMs);
  session.expireTime = timestampFromMs(record.expiresMs);
  session.absoluteExpireTime = timestampFromMs(record.absoluteExpiresMs);
  session.userId = record.userId;
  session.authentication = authenticationMessage(record);
  session.credentialKind = record.isOpenedByToken ? CredentialKind.TOKEN : CredentialKind.SESSION_ID;
  session.ipBinding = ipBindingOf(record);
  // Object.fromEntries defines own properties, so a field named __proto__ stays a field.
  session.fields = Object.fromEntries(fields ?? []);
  return session;
}

/** Returns the reaction to another address; UNSPECIFIED, which is not encoded, if there is none. */
export function ipBindingOf(record: SessionRecord): IpBinding {
  switch (record.ipBinding) {
    case IP_BINDING.warn:
      return IpBinding.WARN;
    case IP_BINDING.invalidate:
      return IpBinding.INVALIDATE;
    default:
      return IpBinding.UNSPECIFIED;
  }
}

/** Returns how the user proved who they are, or undefined if nothing is known about it. */
export function authenticationMessage(record: SessionRecord): Authentication | undefined {
  if (record.authenticatedMs === 0) return undefined;
  const authentication = fromBinary(AuthenticationSchema, record.authentication);
  authentication.time = timestampFromMs(record.authenticatedMs);
  return authentication;
}

/** Encodes the authentication segment of a record, which leaves out the time. */
export function encodeAuthentication(authentication: Authentication | undefined): Uint8Array {
  if (authentication === undefined) return new Uint8Array();
  return toBinary(AuthenticationSchema, { ...authentication, time: undefined });
}

/** Encodes the labels segment of a record: one map entry for each label, in the order of their keys. */
export function encodeLabels(labels: Readonly<Record<string, string>>): Uint8Array {
  const sorted = Object.entries(labels).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return toBinary(SessionSchema, create(SessionSchema, { labels: Object.fromEntries(sorted) }));
}

/** Encodes the identity segment of a record. */
export function encodeIdentity(
  request: { ipAddress: string; userAgent: string },
  device: Device | undefined,
): Uint8Array {
  const { ipAddress, userAgent } = request;
  return toBinary(SessionSchema, create(SessionSchema, { ipAddress, userAgent, device }));
}

/**
 * Encodes the data segment of a record. Returns no bytes for undefined.
 *
 * @throws SessionError INVALID_REQUEST for data that is too large, too deep, or has a number that is not finite.
 */
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

/** Returns the data of a record, or undefined if it has none. */
export function decodeData(record: SessionRecord): JsonObject | undefined {
  return fromBinary(SessionSchema, record.data).data;
}
