// Our HMAC-SHA256 is node:crypto's, for every key and message.

import assert from "node:assert/strict";
import { createHmac, createSecretKey } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { hmacSha256 } from "../../src/domain/hmac.ts";

const bytes = (minLength: number, maxLength: number) =>
  fc.uint8Array({ minLength, maxLength }).map((array) => Buffer.from(array));
const part = fc.oneof(bytes(0, 300), fc.string({ unit: "grapheme", maxLength: 100 }), bytes(3000, 5000));

test("is what node:crypto makes of the same key and message", () => {
  fc.assert(
    fc.property(bytes(1, 64), fc.array(part, { maxLength: 4 }), (key, parts) => {
      const reference = createHmac("sha256", key);
      for (const one of parts) reference.update(one);
      const secret = createSecretKey(key);
      assert.deepEqual(hmacSha256(secret, parts), reference.digest());
      // The second time with what was kept of the key.
      assert.deepEqual(
        hmacSha256(secret, parts),
        hmacSha256(secret, [Buffer.concat(parts.map((one) => Buffer.from(one)))]),
      );
    }),
    { numRuns: 2000 },
  );
});

test("takes no key that would have to be hashed first", () => {
  assert.throws(() => hmacSha256(createSecretKey(Buffer.alloc(65)), []), RangeError);
});
