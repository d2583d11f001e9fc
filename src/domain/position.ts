// Positions: how far a watcher has come in the change logs of all partitions, encoded as a tamper-proof token of one tenant.

import { createHmac, timingSafeEqual } from "node:crypto";
import { invalidField } from "./errors.ts";
import { PARTITION_COUNT } from "./owner.ts";
import type { TokenKey, TokenKeyRing } from "./token.ts";

/** The id of a change in the log of its partition, `<epoch>-<seq>`: seq is contiguous from 1 within an epoch. */
export type ChangeId = { readonly epoch: number; readonly seq: number };

/** For each partition, by its number, the id of the last change that a reader or a watcher has seen. */
export type Position = readonly ChangeId[];

/** The position in a log that has never had a change. */
export const LOG_START: ChangeId = { epoch: 0, seq: 0 };

export function isAfter(a: ChangeId, b: ChangeId): boolean {
  return a.epoch > b.epoch || (a.epoch === b.epoch && a.seq > b.seq);
}

/** The id of a change, and for the first change of an epoch the id of the last change of the epoch before, if it is known. */
export type ChangePlace = { readonly id: ChangeId; readonly previous?: ChangeId | undefined };

/** Returns true if no change lies between `last` and the change. */
export function follows(last: ChangeId, { id, previous }: ChangePlace): boolean {
  if (last.epoch === id.epoch) return id.seq === last.seq + 1;
  return last.epoch === previous?.epoch && last.seq === previous.seq;
}

const VERSION = 1;
const HEADER_BYTES = 3;
const MAC_BYTES = 16;

/**
 * Encodes a position as base64url of `version u8 | kid u16 | least epoch varint | for each partition (epoch - least + 1, or 0
 * for none; seq) | HMAC`.
 */
export function encodePosition(ring: TokenKeyRing, tenant: string, position: Position): string {
  const epochs = position.filter(({ epoch }) => epoch > 0).map(({ epoch }) => epoch);
  const leastEpoch = epochs.length > 0 ? Math.min(...epochs) : 0;
  const bytes: number[] = [VERSION, ring.active.kid >> 8, ring.active.kid & 255];
  writeVarint(bytes, leastEpoch);
  for (const { epoch, seq } of position) {
    writeVarint(bytes, epoch === 0 ? 0 : epoch - leastEpoch + 1);
    if (epoch > 0) writeVarint(bytes, seq);
  }
  const payload = Buffer.from(bytes);
  return Buffer.concat([payload, macOf(ring.active, payload, tenant)]).toString("base64url");
}

/** @throws SessionError INVALID_REQUEST if the token is malformed, or was not made for this tenant with a key of the ring. */
export function decodePosition(ring: TokenKeyRing, tenant: string, token: string): Position {
  const bytes = Buffer.from(token, "base64url");
  const payload = bytes.subarray(0, -MAC_BYTES);
  const key = payload.length > HEADER_BYTES && payload[0] === VERSION && ring.verifying.get(payload.readUInt16BE(1));
  if (!key || !timingSafeEqual(bytes.subarray(-MAC_BYTES), macOf(key, payload, tenant))) {
    throw invalidField("resume_position", "is not a position of this service and tenant");
  }
  const reader = { bytes: payload, offset: HEADER_BYTES };
  const leastEpoch = readVarint(reader);
  return Array.from({ length: PARTITION_COUNT }, () => {
    const epoch = readVarint(reader);
    return epoch === 0 ? LOG_START : { epoch: epoch + leastEpoch - 1, seq: readVarint(reader) };
  });
}

function macOf(key: TokenKey, payload: Buffer, tenant: string): Buffer {
  return createHmac("sha256", key.key)
    .update("position\0")
    .update(payload)
    .update(tenant)
    .digest()
    .subarray(0, MAC_BYTES);
}

function writeVarint(bytes: number[], value: number): void {
  while (value >= 128) {
    bytes.push((value % 128) + 128);
    value = Math.floor(value / 128);
  }
  bytes.push(value);
}

function readVarint(reader: { readonly bytes: Buffer; offset: number }): number {
  let value = 0;
  for (let factor = 1; ; factor *= 128) {
    const byte = reader.bytes[reader.offset++]!;
    value += (byte % 128) * factor;
    if (byte < 128) return value;
  }
}
