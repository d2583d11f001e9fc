// docs/configuration.md lists the environment variables exactly as the code defines them.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { variableTexts } from "../../src/config/variables.ts";

const page = readFileSync("docs/configuration.md", "utf8");

test("each variable has a row with its shape, unit and default", () => {
  const rows = variableTexts().map(({ name, shape, default: fallback, doc }) => {
    return `| \`${name}\` | ${shape} | ${fallback} | ${doc} |`;
  });
  const found = page.split("\n").filter((line) => line.startsWith("| `SA_"));
  assert.deepEqual(found, rows);
});

test("no page names a variable that does not exist", () => {
  const known = new Set<string>(variableTexts().map(({ name }) => name));
  for (const file of ["README.md", "docs/configuration.md", "docs/operations.md", "compose.yaml", "Dockerfile"]) {
    const names = readFileSync(file, "utf8").match(/\bSA_[A-Z_]*[A-Z]/g) ?? [];
    assert.deepEqual(
      names.filter((name) => !known.has(name)),
      [],
      file,
    );
  }
});
