// HMAC-SHA256 (RFC 2104), made of two plain digests: each token is checked by one, and an Hmac object of node:crypto takes
// several times as long to make as to use.

import { hash, type KeyObject } from "node:crypto";

const BLOCK_BYTES = 64;
const DIGEST_BYTES = 32;
const INNER_PAD = 0x36;
const OUTER_PAD = 0x5c;
/** What a digest of node:crypto is asked for as: a Buffer would have memory of its own, which takes longer than the digest. */
const AS_TEXT = "binary";

/** The HMACs of messages of one length under one key: what they have in common is worked out once. */
export class HmacSha256 {
  /** The message, to be written here. */
  readonly message: Buffer;
  readonly #inner: Buffer;
  readonly #outer: Buffer;
  readonly #digest = Buffer.alloc(DIGEST_BYTES);

  /** @throws RangeError for a key of more than 64 bytes, which would have to be hashed first. */
  constructor(key: KeyObject, messageBytes: number) {
    const bytes = key.export();
    if (bytes.length > BLOCK_BYTES) throw new RangeError(`a key of ${bytes.length} bytes is more than ${BLOCK_BYTES}`);
    this.#inner = Buffer.alloc(BLOCK_BYTES + messageBytes);
    this.#outer = Buffer.alloc(BLOCK_BYTES + DIGEST_BYTES);
    for (let i = 0; i < BLOCK_BYTES; i++) {
      this.#inner[i] = (bytes[i] ?? 0) ^ INNER_PAD;
      this.#outer[i] = (bytes[i] ?? 0) ^ OUTER_PAD;
    }
    this.message = this.#inner.subarray(BLOCK_BYTES);
  }

  /** Of the message as it is now: 32 bytes, which the next call overwrites. */
  digest(): Buffer {
    this.#outer.write(hash("sha256", this.#inner, AS_TEXT), BLOCK_BYTES, AS_TEXT);
    this.#digest.write(hash("sha256", this.#outer, AS_TEXT), AS_TEXT);
    return this.#digest;
  }
}

export function sha256(bytes: Buffer): Buffer {
  return Buffer.from(hash("sha256", bytes, AS_TEXT), AS_TEXT);
}
