// Finds words that the project no longer uses, and names the word to write instead. Exits with 1 if it finds any.
//
// `node scripts/check_words.ts` checks every file; `node scripts/check_words.ts docs/watch.md` checks only that one.

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";

/** Each pattern matches whole words. The parts of an identifier are words of their own: `tellAll` is "tell all". */
const BANNED: readonly (readonly [pattern: string, instead: string])[] = [
  ["whoever", "the caller that, the code that"],
  ["tells?|told|telling", "send, report, notify, determine"],
  ["hears?|heard|hearing", "receive"],
  ["questions?", "request, entry"],
  ["(?:an?|the|its|their) answers?", "response"],
  ["asked for it", "requested it"],
  ["opens? nothing", "cannot be used with its id"],
  ["no oracle", "indistinguishable from …, so the response reveals nothing"],
  ["shown (?:this )?once", "returned only here"],
  ["judg(?:es?|ed|ing|e?ments?)", "evaluate, evaluateWithStore"],
  ["serve first|answer directly", "fast path, tryServe"],
  ["live calls?", "active call"],
  ["budgets?", "deadline"],
  ["(?<!rate )limiters?", "call deadline, withTimeout"],
  ["feeds?|feeding", "push stream, stream of changes"],
  ["pours?|poured|pouring", "write, drain"],
  ["hubs?", "broadcaster"],
  ["relays?|relayed|relaying", "change-log reader"],
  ["doorbells?", "wake-up hint"],
  ["manyth", "every nth"],
  ["handovers?", "connection dispatcher"],
  ["inquir(?:y|ies)", "worker request"],
];

/** Texts that contain a banned word which is right there. */
const ALLOWED = ["GitHub", "You get an answer within three working days"];

const PATHS = ["src", "proto/session", "docs", "test", "scripts", "bench", "examples", ":(glob)*.md"];
const EXTENSIONS = /\.(?:ts|js|lua|proto|go|py|md)$/;
/** This file holds the words, and its test holds samples of them. */
const EXCLUDED = ["scripts/check_words.ts", "test/project/banned_words.test.ts"];

const patterns = BANNED.map(([pattern, instead]) => ({ pattern: new RegExp(`\\b(?:${pattern})\\b`, "gi"), instead }));

export type BannedWord = { readonly line: number; readonly word: string; readonly instead: string };

/** Returns the banned words of a text in the order of its lines, which are counted from 1. */
export function findBannedWords(text: string): BannedWord[] {
  return text.split("\n").flatMap((content, index) => {
    const words = ALLOWED.reduce((rest, allowed) => rest.replaceAll(allowed, ""), content)
      .replaceAll(/([a-z0-9])([A-Z])/g, "$1 $2")
      .replaceAll("_", " ");
    return patterns.flatMap(({ pattern, instead }) =>
      [...words.matchAll(pattern)].map(([word]) => ({ line: index + 1, word, instead })),
    );
  });
}

function projectFiles(): string[] {
  const args = ["ls-files", "--cached", "--others", "--exclude-standard", "--", ...PATHS];
  const files = execFileSync("git", args, { encoding: "utf8" }).trimEnd().split("\n");
  return files.filter((file) => EXTENSIONS.test(file) && !EXCLUDED.includes(file) && existsSync(file));
}

if (import.meta.main) {
  const files = process.argv.length > 2 ? process.argv.slice(2) : projectFiles();
  for (const file of files) {
    for (const { line, word, instead } of findBannedWords(readFileSync(file, "utf8"))) {
      process.stdout.write(`${file}:${line}: "${word}" -> write: ${instead}\n`);
      process.exitCode = 1;
    }
  }
}
