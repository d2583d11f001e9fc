// The stored record of a session. src/store/lua/lib/record.lua documents the layout and writes it.

import { userIdOfOwner } from "../domain/owner.ts";

/** The variants of a session, as the record's kind byte. */
export const SESSION_KIND = { simple: 0, hash: 1 } as const;
export type SessionKind = (typeof SESSION_KIND)[keyof typeof SESSION_KIND];

const FORMAT = 1;
const HEADER_LENGTH = 64;

/** A session as the store holds it. Times are milliseconds since 1970 by the store's clock. */
export type SessionRecord = {
  readonly sessionId: string;
  readonly kind: number;
  readonly owner: string;
  readonly userId: string;
  readonly version: bigint;
  readonly createdMs: number;
  readonly lastAccessedMs: number;
  readonly expiresMs: number;
  readonly absoluteExpiresMs: number;
  /** ip_address, user_agent and device, as an encoded session.v1.Session that has nothing else. */
  readonly identity: Uint8Array;
  /** `data`, as an encoded session.v1.Session that has nothing else; empty when there is none. */
  readonly data: Uint8Array;
};

/** Reads a record; throws when the bytes are not one. */
export function decodeRecord(sessionId: string, bytes: Buffer): SessionRecord {
  if (bytes.length < HEADER_LENGTH || bytes[0] !== FORMAT) {
    throw new Error(`unreadable record: ${bytes.length} bytes, format ${bytes[0]}`);
  }
  const ownerEnd = HEADER_LENGTH + bytes.readUInt16BE(4);
  const deviceEnd = ownerEnd + bytes.readUInt16BE(6);
  const identityEnd = deviceEnd + bytes.readUInt32BE(8);
  const owner = bytes.toString("latin1", HEADER_LENGTH, ownerEnd);
  return {
    sessionId,
    kind: bytes[1]!,
    owner,
    userId: userIdOfOwner(owner),
    version: BigInt(bytes.readDoubleBE(16)),
    createdMs: bytes.readDoubleBE(24),
    lastAccessedMs: bytes.readDoubleBE(32),
    expiresMs: bytes.readDoubleBE(40),
    absoluteExpiresMs: bytes.readDoubleBE(48),
    identity: bytes.subarray(deviceEnd, identityEnd),
    data: bytes.subarray(identityEnd, identityEnd + bytes.readUInt32BE(12)),
  };
}
