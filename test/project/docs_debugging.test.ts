// docs/debugging.md shows the stored format, the scripts and their lines as they are.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { assembleScript, readLua } from "../../src/store/script_source.ts";

const page = readFileSync("docs/debugging.md", "utf8");

test("the header of a record is decoded as the scripts write it", () => {
  const record = readLua("includes/record") ?? "";
  const header = /HEADER_LENGTH, ACCESSED_OFFSET = '([^']+)'/.exec(record)?.[1];
  assert.ok(header);
  assert.ok(page.includes(`struct.unpack('${header}'`), header);
  const format = /record_pack\(r\)\n +return struct\.pack\(HEADER, (\d+)/.exec(record)?.[1];
  assert.ok(page.includes(`\n0${format}000000000b`), `format ${format}`);
});

test("the lines of the script that the debugger shows are its lines", () => {
  const lines = assembleScript("simple_sessions_get", readLua).map(({ text }) => text);
  const shown = [...page.matchAll(/^(?:-> |->#|  #)(\d+) +(.+)$/gm)];
  assert.equal(shown.length, 5);
  for (const [, number, text] of shown) assert.equal(lines[Number(number) - 1], text);
});
