// HMAC-SHA256 (RFC 2104), made of two plain digests: each token is checked by one, and an Hmac object of node:crypto takes
// several times as long to make as to use.

import { hash, type KeyObject } from "node:crypto";

const BLOCK_BYTES = 64;
const DIGEST_BYTES = 32;
/** What a digest of node:crypto is asked for as: a Buffer would have memory of its own, which takes longer than the digest. */
const AS_TEXT = "binary";

/** The two forms of a key that a digest begins with, the second with room for the first's digest. */
type Pads = { readonly inner: Buffer; readonly outer: Buffer };
const padsOfKey = new WeakMap<KeyObject, Pads>();

/** Where a message is put together, one at a time: nothing here waits. */
let scratch = Buffer.alloc(1024);

/** The HMAC-SHA256 of the parts, one after the other, text as UTF-8. `key` is a secret key of at most 64 bytes. */
export function hmacSha256(key: KeyObject, parts: readonly (string | Buffer)[]): Buffer {
  const { inner, outer } = padsOf(key);
  const most = parts.reduce((sum, part) => sum + part.length * 3, BLOCK_BYTES);
  if (scratch.length < most) scratch = Buffer.alloc(most);
  let at = inner.copy(scratch);
  for (const part of parts) at += typeof part === "string" ? scratch.write(part, at) : part.copy(scratch, at);
  outer.write(hash("sha256", scratch.subarray(0, at), AS_TEXT), BLOCK_BYTES, AS_TEXT);
  return sha256(outer);
}

export function sha256(bytes: Buffer): Buffer {
  return Buffer.from(hash("sha256", bytes, AS_TEXT), AS_TEXT);
}

function padsOf(key: KeyObject): Pads {
  let pads = padsOfKey.get(key);
  if (pads === undefined) {
    const bytes = key.export();
    if (bytes.length > BLOCK_BYTES) throw new RangeError(`a key of ${bytes.length} bytes is more than ${BLOCK_BYTES}`);
    const padded = (pad: number, room: number) =>
      Buffer.alloc(BLOCK_BYTES + room).map((_, i) => (i < BLOCK_BYTES ? (bytes[i] ?? 0) ^ pad : 0)) as Buffer;
    pads = { inner: padded(0x36, 0), outer: padded(0x5c, DIGEST_BYTES) };
    padsOfKey.set(key, pads);
  }
  return pads;
}
