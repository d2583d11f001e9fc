// Session ids: 1 byte partition + 20 random bytes, base64url, 28 characters.

import { randomBytes } from "node:crypto";

const ID_BYTES = 21;
const ID_PATTERN = /^[A-Za-z0-9_-]{28}$/;

/** A new id in `partition` (0 to 255). 160 random bits: no two are ever the same. */
export function newSessionId(partition: number): string {
  const bytes = randomBytes(ID_BYTES);
  bytes[0] = partition;
  return bytes.toString("base64url");
}

/** The partition an id names, or undefined for a text that no session can have as its id. */
export function partitionOfSessionId(sessionId: string): number | undefined {
  if (!ID_PATTERN.test(sessionId)) return undefined;
  return Buffer.from(sessionId.slice(0, 4), "base64url")[0];
}
