// The stored record of a session. src/store/lua/includes/record.lua documents the layout and writes it.

import { userIdOfOwner } from "../domain/owner.ts";

/** What opens a session, as the record's kind byte. */
export const RECORD_KIND = { id: 0, token: 2 } as const;
export type RecordKind = (typeof RECORD_KIND)[keyof typeof RECORD_KIND];

const FORMAT = 2;
const HEADER_LENGTH = 64;
const DIGEST_LENGTH = 32;
const RETIRED_LENGTH = 40;
const KIND_FORWARD = 255;
const COLON = 0x3a;
const PERCENT = 0x25;
/** Begins the name of an anonymous session: see src/domain/owner.ts. */
const AT_SIGN = 0x40;

/** The lowest bits of the record's flags: what happens when the session is presented from another address than its login's. */
export const IP_BINDING = { off: 0, warn: 1, invalidate: 2 } as const;
export type IpBindingFlag = (typeof IP_BINDING)[keyof typeof IP_BINDING];

const IP_BINDING_MASK = 3;
const DEVICE_TYPE_SHIFT = 2;
const DEVICE_TYPE_MASK = 7;
const EVICTABLE = 1 << 5;

/** Returns the flags of a record. `deviceType` is the contract's number, 0 without a device. */
export function recordFlags(ipBinding: IpBindingFlag, deviceType: number, isEvictable: boolean): number {
  return ipBinding | (deviceType << DEVICE_TYPE_SHIFT) | (isEvictable ? EVICTABLE : 0);
}

/**
 * A session as the store holds it: a view on the record's bytes, which decodes each part on access. Times are milliseconds
 * since 1970 by the store's clock.
 */
export class SessionRecord {
  readonly sessionId: string;
  readonly kind: number;
  readonly #bytes: Buffer;
  readonly #ownerStart: number;
  readonly #ownerEnd: number;
  readonly #deviceEnd: number;
  readonly #identityEnd: number;
  readonly #authenticationStart: number;

  /** @throws Error if the bytes are not a record of this format. */
  constructor(sessionId: string, bytes: Buffer) {
    if (bytes.length < HEADER_LENGTH || bytes[0] !== FORMAT) {
      throw new Error(`unreadable record: ${bytes.length} bytes, format ${bytes[0]}`);
    }
    this.sessionId = sessionId;
    this.kind = bytes[1]!;
    this.#bytes = bytes;
    const digestEnd = HEADER_LENGTH + DIGEST_LENGTH;
    this.#ownerStart = this.isOpenedByToken ? digestEnd + 1 + bytes[digestEnd]! * RETIRED_LENGTH : HEADER_LENGTH;
    this.#ownerEnd = this.#ownerStart + bytes.readUInt16BE(4);
    this.#deviceEnd = this.#ownerEnd + bytes.readUInt16BE(6);
    this.#identityEnd = this.#deviceEnd + bytes.readUInt16BE(8);
    this.#authenticationStart = this.#identityEnd + bytes.readUInt32BE(12) + bytes.readUInt16BE(10);
  }

  /** True if a token opens the session and its id does not. */
  get isOpenedByToken(): boolean {
    return this.kind === RECORD_KIND.token;
  }

  get byteLength(): number {
    return this.#bytes.length;
  }

  /** The device's type as the contract numbers it; 0 without a device. */
  get deviceType(): number {
    return (this.flags >> DEVICE_TYPE_SHIFT) & DEVICE_TYPE_MASK;
  }

  get flags(): number {
    return this.#bytes.readUInt16BE(2);
  }

  get ipBinding(): IpBindingFlag {
    return (this.#bytes.readUInt16BE(2) & IP_BINDING_MASK) as IpBindingFlag;
  }

  /** True if a session limit may evict the session. */
  get isEvictable(): boolean {
    return (this.#bytes.readUInt16BE(2) & EVICTABLE) !== 0;
  }

  get owner(): string {
    return this.#bytes.toString("latin1", this.#ownerStart, this.#ownerEnd);
  }

  get userId(): string {
    return userIdOfOwner(this.owner);
  }

  /** Returns true if the owner begins with `ownerPrefix`, which is ASCII. Decodes nothing: every validation calls it. */
  isOwnedBy(ownerPrefix: string): boolean {
    if (ownerPrefix.length > this.#ownerEnd - this.#ownerStart) return false;
    for (let i = 0; i < ownerPrefix.length; i++) {
      if (this.#bytes[this.#ownerStart + i] !== ownerPrefix.charCodeAt(i)) return false;
    }
    return true;
  }

  /** Writes the user's id as UTF-8; returns the number of bytes, 0 for an anonymous session. */
  writeUserId(target: Buffer, start: number): number {
    const from = this.#bytes.indexOf(COLON, this.#ownerStart) + 1;
    if (this.#bytes[from] === AT_SIGN) return 0;
    for (let at = from; at < this.#ownerEnd; at++) {
      const byte = this.#bytes[at]!;
      if (byte === PERCENT) return target.write(this.userId, start);
      target[start + at - from] = byte;
    }
    return this.#ownerEnd - from;
  }

  /** Empty if the session has no device. */
  get deviceId(): string {
    return decodeURIComponent(this.#bytes.toString("latin1", this.#ownerEnd, this.#deviceEnd));
  }

  get version(): bigint {
    return BigInt(this.versionNumber);
  }

  /** The version as a number, exact to 2^53. */
  get versionNumber(): number {
    return this.#bytes.readDoubleBE(16);
  }

  /** In whole milliseconds. */
  get createdMs(): number {
    return Math.floor(this.createdExactMs);
  }

  /** With the microseconds of the store's clock as a fraction. */
  get createdExactMs(): number {
    return this.#bytes.readDoubleBE(24);
  }

  get lastAccessedMs(): number {
    return this.#bytes.readDoubleBE(32);
  }

  get expiresMs(): number {
    return Math.min(this.lastAccessedMs + this.idleTimeoutMs, this.absoluteExpiresMs);
  }

  get absoluteExpiresMs(): number {
    return this.#bytes.readDoubleBE(40);
  }

  get idleTimeoutMs(): number {
    return this.#bytes.readDoubleBE(48);
  }

  /** When the user proved who they are; 0 if nothing is known about it. */
  get authenticatedMs(): number {
    return this.#bytes.readDoubleBE(56);
  }

  /** The SHA-256 of the secret; only for a session that a token opens. */
  get secretDigest(): Buffer {
    return this.#bytes.subarray(HEADER_LENGTH, HEADER_LENGTH + DIGEST_LENGTH);
  }

  /** The new id, if this is the forward that a regeneration leaves under the old id for its grace. */
  get forwardsTo(): string | undefined {
    return this.kind === KIND_FORWARD ? this.#bytes.toString("latin1", this.#ownerEnd, this.#deviceEnd) : undefined;
  }

  /** An encoded session.v1.Session that has only ip_address, user_agent and device. */
  get identity(): Buffer {
    return this.#bytes.subarray(this.#deviceEnd, this.#identityEnd);
  }

  /** An encoded session.v1.Session that has only `data`; empty if there is none. */
  get data(): Uint8Array {
    return this.#bytes.subarray(this.#identityEnd, this.#identityEnd + this.#bytes.readUInt32BE(12));
  }

  /** An encoded session.v1.Session that has only `labels`. */
  get labels(): Uint8Array {
    const start = this.#identityEnd + this.#bytes.readUInt32BE(12);
    return this.#bytes.subarray(start, this.#authenticationStart);
  }

  /** An encoded session.v1.Session that has only ip_address, user_agent, device, data and labels. */
  get contractBytes(): Uint8Array {
    return this.#bytes.subarray(this.#deviceEnd, this.#authenticationStart);
  }

  /** An encoded session.v1.Authentication without its time. */
  get authentication(): Uint8Array {
    return this.#bytes.subarray(this.#authenticationStart);
  }

  /** The number of bytes of `contractBytes`. */
  get contractLength(): number {
    return this.#authenticationStart - this.#deviceEnd;
  }

  /** Copies `contractBytes` without making a view on them. */
  writeContractBytes(target: Buffer, start: number): void {
    this.#bytes.copy(target, start, this.#deviceEnd, this.#authenticationStart);
  }
}
