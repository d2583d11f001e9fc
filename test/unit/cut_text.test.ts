// cutText keeps the whole characters that fit, and makes text well-formed.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { cutText } from "../../src/lib/cut_text.ts";

test("keeps as many whole characters as fit", () => {
  for (const [text, maxBytes, expected] of [
    ["", 4, ""],
    ["abcd", 4, "abcd"],
    ["abcde", 4, "abcd"],
    ["éé", 4, "éé"],
    ["aéé", 4, "aé"],
    ["€€", 5, "€"],
    ["\u{1F600}", 4, "\u{1F600}"],
    ["\u{1F600}", 3, ""],
    ["a\u{1F600}b", 4, "a"],
    ["a\ud83d", 4, "a\ufffd"],
    ["ab\ude00", 4, "ab"],
  ] as const) {
    assert.equal(cutText(text, maxBytes), expected, JSON.stringify(text));
  }
});

test("any text is a well-formed prefix that fits and cannot be longer", () => {
  const character = fc.constantFrom("x", "é", "€", "\u{1F600}", "\ud83d", "\ude00");
  fc.assert(
    fc.property(fc.array(character, { maxLength: 40 }), fc.integer({ min: 1, max: 40 }), (characters, maxBytes) => {
      const wellFormed = characters.join("").toWellFormed();
      const cut = cutText(characters.join(""), maxBytes);
      const [next = ""] = wellFormed.slice(cut.length);
      assert.ok(cut.isWellFormed() && wellFormed.startsWith(cut) && Buffer.byteLength(cut) <= maxBytes);
      assert.ok(next === "" || Buffer.byteLength(cut + next) > maxBytes);
    }),
    { numRuns: 2000 },
  );
});
