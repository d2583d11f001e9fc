// HMAC-SHA256 (RFC 2104) by two plain digests. Every token is checked by one, and the Hmac object of node:crypto takes several
// times as long to create as to use.

import { hash, type KeyObject } from "node:crypto";

const BLOCK_BYTES = 64;
const DIGEST_BYTES = 32;
const INNER_PAD = 0x36;
const OUTER_PAD = 0x5c;
/** The encoding of digests on their way here: a Buffer of its own takes longer to allocate than the digest takes. */
const ENCODING = "binary";

/** Computes HMACs of messages of one length under one key; the padded key blocks are computed once. */
export class HmacSha256 {
  /** The caller writes the message here before it calls `digest`. */
  readonly message: Buffer;
  readonly #inner: Buffer;
  readonly #outer: Buffer;
  readonly #digest = Buffer.alloc(DIGEST_BYTES);

  /** @throws RangeError for a key of more than 64 bytes, which HMAC would have to hash first. */
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

  /** Returns the HMAC of `message`: 32 bytes, which the next call overwrites. */
  digest(): Buffer {
    this.#outer.write(hash("sha256", this.#inner, ENCODING), BLOCK_BYTES, ENCODING);
    this.#digest.write(hash("sha256", this.#outer, ENCODING), ENCODING);
    return this.#digest;
  }
}

/** Returns the SHA-256 digest: 32 bytes of its own. */
export function sha256(bytes: Buffer): Buffer {
  return Buffer.from(hash("sha256", bytes, ENCODING), ENCODING);
}
