// HmacSha256 equals the HMAC-SHA256 of node:crypto for every key and message.

import assert from "node:assert/strict";
import { createHmac, createSecretKey } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { HmacSha256 } from "../../src/lib/hmac.ts";

const bytes = (minLength: number, maxLength: number) =>
  fc.uint8Array({ minLength, maxLength }).map((array) => Buffer.from(array));
const messages = fc.nat(300).chain((length) => fc.array(bytes(length, length), { minLength: 1, maxLength: 4 }));

test("equals the HMAC of node:crypto", () => {
  fc.assert(
    fc.property(bytes(1, 64), messages, (key, [first, ...others]) => {
      const secret = createSecretKey(key);
      const hmac = new HmacSha256(secret, first!.length);
      for (const message of [first!, ...others]) {
        message.copy(hmac.message);
        assert.deepEqual(hmac.digest(), createHmac("sha256", secret).update(message).digest());
      }
    }),
    { numRuns: 2000 },
  );
});

test("throws for a key over 64 bytes, which HMAC would have to hash first", () => {
  assert.throws(() => new HmacSha256(createSecretKey(Buffer.alloc(65)), 0), RangeError);
});
