// How TypeScript values become the ARGV of the scripts.

import type { CallContext } from "../domain/call.ts";

/** The actor is percent-encoded, so that it is one word of a change. */
export function actorArg(call: CallContext): string {
  return encodeURIComponent(call.principal.name);
}

/** Returns a Buffer on the same memory, because node-redis takes no other byte arrays. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
