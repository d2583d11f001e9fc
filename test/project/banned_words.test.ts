// The check of banned words finds them in prose and in identifiers, and raises no alarm on words that contain them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { findBannedWords } from "../../scripts/check_words.ts";

const FOUND: readonly (readonly [text: string, ...words: string[]])[] = [
  ["// Whoever calls this is told so.", "Whoever", "told"],
  ["const tellAll = () => hub.tell(event);", "hub", "tell", "tell"],
  ["local relay_position = 1", "relay"],
  ["type RequestQuestion = { doorbell: boolean };", "Question", "doorbell"],
  ["the id of a secure session opens nothing", "opens nothing"],
  ["It waits for the answer.", "the answer"],
];

for (const [text, ...words] of FOUND) {
  test(`finds ${words.join(", ")}`, () => {
    assert.deepEqual(
      findBannedWords(text)
        .map(({ word }) => word)
        .toSorted(),
      words.toSorted(),
    );
  });
}

for (const text of [
  'import { delimiter } from "node:path";',
  "A file on GitHub, or elsewhere in the hubbub",
  "the rate limiter answers in time",
  "feedback of a storyteller",
]) {
  test(`finds nothing in: ${text}`, () => assert.deepEqual(findBannedWords(text), []));
}

test("reports the line and the word to write instead", () => {
  assert.deepEqual(findBannedWords("first\nsecond\nthe doorbell"), [
    { line: 3, word: "doorbell", instead: "wake-up hint" },
  ]);
});
