// The stored record of a session. src/store/lua/lib/record.lua documents the layout and writes it.

import { userIdOfOwner } from "../domain/owner.ts";

/** The variants of a session, as the record's kind byte. */
export const SESSION_KIND = { simple: 0, hash: 1, secure: 2, device: 3 } as const;
export type SessionKind = (typeof SESSION_KIND)[keyof typeof SESSION_KIND];

const FORMAT = 1;
const HEADER_LENGTH = 64;
const DIGEST_LENGTH = 32;
const RETIRED_LENGTH = 40;
const KIND_FORWARD = 255;
/** The low bits of the record's flags: what another address than the login's does. */
export const IP_BINDING = { off: 0, warn: 1, invalidate: 2 } as const;
export type IpBindingFlag = (typeof IP_BINDING)[keyof typeof IP_BINDING];

/** A session as the store holds it. Times are milliseconds since 1970 by the store's clock. */
export type SessionRecord = {
  readonly sessionId: string;
  readonly kind: number;
  readonly ipBinding: number;
  readonly owner: string;
  readonly userId: string;
  readonly version: bigint;
  readonly createdMs: number;
  readonly lastAccessedMs: number;
  readonly expiresMs: number;
  readonly absoluteExpiresMs: number;
  readonly idleTimeoutMs: number;
  /** SHA-256 of a secure session's secret; undefined for the other kinds. */
  readonly secretDigest: Buffer | undefined;
  /** For a forward, which is what a regeneration leaves for its grace: the new id. */
  readonly forwardsTo: string | undefined;
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
  const kind = bytes[1]!;
  const digestEnd = HEADER_LENGTH + DIGEST_LENGTH;
  const isSecure = kind === SESSION_KIND.secure;
  const ownerStart = isSecure ? digestEnd + 1 + bytes[digestEnd]! * RETIRED_LENGTH : HEADER_LENGTH;
  const ownerEnd = ownerStart + bytes.readUInt16BE(4);
  const deviceEnd = ownerEnd + bytes.readUInt16BE(6);
  const identityEnd = deviceEnd + bytes.readUInt32BE(8);
  const owner = bytes.toString("latin1", ownerStart, ownerEnd);
  return {
    sessionId,
    kind,
    ipBinding: bytes.readUInt16BE(2),
    owner,
    userId: userIdOfOwner(owner),
    version: BigInt(bytes.readDoubleBE(16)),
    createdMs: bytes.readDoubleBE(24),
    lastAccessedMs: bytes.readDoubleBE(32),
    expiresMs: bytes.readDoubleBE(40),
    absoluteExpiresMs: bytes.readDoubleBE(48),
    idleTimeoutMs: bytes.readDoubleBE(56),
    secretDigest: isSecure ? bytes.subarray(HEADER_LENGTH, digestEnd) : undefined,
    forwardsTo: kind === KIND_FORWARD ? bytes.toString("latin1", ownerEnd, deviceEnd) : undefined,
    identity: bytes.subarray(deviceEnd, identityEnd),
    data: bytes.subarray(identityEnd, identityEnd + bytes.readUInt32BE(12)),
  };
}
