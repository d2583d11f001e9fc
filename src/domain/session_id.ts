// Session ids: 1 byte partition + 20 random bytes, base64url, 28 characters.

import { randomBytes } from "node:crypto";

const ID_BYTES = 21;
const ID_LENGTH = 28;

/** What a character of base64url stands for, by its code; -1 for those that are none. */
const BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const VALUES = Int8Array.from({ length: 128 }, (_, code) => BASE64URL.indexOf(String.fromCharCode(code)));

/** A new id in `partition` (0 to 255). 160 random bits: no two are ever the same. */
export function newSessionId(partition: number): string {
  const bytes = randomBytes(ID_BYTES);
  bytes[0] = partition;
  return bytes.toString("base64url");
}

/** The partition an id names, or undefined for a text that no session can have as its id. */
export function partitionOfSessionId(sessionId: string): number | undefined {
  if (sessionId.length !== ID_LENGTH) return undefined;
  for (let i = 0; i < ID_LENGTH; i++) {
    // Beyond the table there is nothing, which is no value either.
    if (!(VALUES[sessionId.charCodeAt(i)]! >= 0)) return undefined;
  }
  return (VALUES[sessionId.charCodeAt(0)]! << 2) | (VALUES[sessionId.charCodeAt(1)]! >> 4);
}
