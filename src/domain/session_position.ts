// The place of a session in a list of one user's sessions, which is in the order of creation.

import { invalidField } from "./errors.ts";

const TIME_BYTES = 8;

/** Encodes a time of creation, in milliseconds with a fraction, in base64url characters. */
export function encodeSessionPosition(created: number): string {
  const bytes = Buffer.alloc(TIME_BYTES);
  bytes.writeDoubleBE(created);
  return bytes.toString("base64url");
}

/** @throws SessionError INVALID_REQUEST if the text is not an encoded position. */
export function decodeSessionPosition(text: string): number {
  const bytes = Buffer.from(text, "base64url");
  const created = bytes.length === TIME_BYTES ? bytes.readDoubleBE() : NaN;
  if (!Number.isFinite(created)) throw invalidField("page_token", "is not a next_page_token of this list");
  return created;
}
