// Session ids: 1 byte partition + 20 random bytes, base64url, 28 characters.

import { randomBytes } from "node:crypto";
import { base64urlValue, isBase64url } from "../lib/base64url.ts";

const ID_BYTES = 21;
const ID_LENGTH = 28;

/** Returns a new id in `partition` (0 to 255). With 160 random bits no two ids are ever equal. */
export function newSessionId(partition: number): string {
  const bytes = randomBytes(ID_BYTES);
  bytes[0] = partition;
  return bytes.toString("base64url");
}

/** Returns the partition in an id (0 to 255), or undefined if the text is not a session id. */
export function partitionOfSessionId(sessionId: string): number | undefined {
  if (sessionId.length !== ID_LENGTH || !isBase64url(sessionId)) return undefined;
  return (base64urlValue(sessionId, 0) << 2) | (base64urlValue(sessionId, 1) >> 4);
}
