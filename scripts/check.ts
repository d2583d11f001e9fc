// `npm run check`: everything that can be said of the code without running it, one line for each check that passes.
//
// `npm run check -- oxlint knip` runs only those.

import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { stripVTControlCharacters } from "node:util";

type Outcome = { readonly passed: boolean; readonly text: string };
type Check = { readonly name: string; readonly run: () => Outcome };

const PROTO = "proto/session";
/** What the contract must stay compatible with; a fresh clone has only the first. */
const MAIN_BRANCHES = ["origin/main", "main"];

const CHECKS: readonly Check[] = [
  { name: "oxfmt", run: () => command("oxfmt", "--check", ".") },
  // The import rules of the folders are among its rules.
  { name: "oxlint", run: () => command("oxlint") },
  { name: "tsc", run: () => command("tsc", "-p", ".") },
  { name: "buf-lint", run: () => command("buf", "lint") },
  { name: "buf-format", run: () => command("buf", "format", "--diff", "--exit-code", "--path", PROTO) },
  { name: "generated", run: generatedCode },
  { name: "knip", run: () => command("knip", "--no-config-hints") },
  {
    name: "knip-production",
    run: () =>
      command("knip", "--no-config-hints", "--production", "--include", "files,dependencies,unlisted,unresolved"),
  },
  { name: "buf-breaking", run: breakingChanges },
];

process.exitCode = main(process.argv.slice(2));

function main(names: readonly string[]): number {
  const unknown = names.filter((name) => !CHECKS.some((check) => check.name === name));
  if (unknown.length > 0) {
    process.stderr.write(
      `no such check: ${unknown.join(", ")}; there are ${CHECKS.map(({ name }) => name).join(", ")}\n`,
    );
    return 2;
  }
  let failed = 0;
  for (const { name, run } of CHECKS) {
    if (names.length > 0 && !names.includes(name)) continue;
    const startedMs = performance.now();
    const { passed, text } = run();
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
    if (passed) {
      process.stdout.write(`ok   ${name} (${seconds} s)${text === "" ? "" : `: ${text}`}\n`);
    } else {
      failed++;
      process.stdout.write(`FAIL ${name} (${seconds} s)\n${text}\n`);
    }
  }
  return failed > 0 ? 1 : 0;
}

/** Runs one of the project's tools; what it prints is kept for a failure. */
function command(program: string, ...args: string[]): Outcome {
  const env = {
    ...process.env,
    NO_COLOR: "1",
    PATH: [resolve("node_modules/.bin"), process.env["PATH"]].join(delimiter),
  };
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: "utf8", env, maxBuffer: 2 ** 26 });
  if (error) return { passed: false, text: error.message };
  return status === 0
    ? { passed: true, text: "" }
    : { passed: false, text: stripVTControlCharacters(`${stdout}${stderr}`).trimEnd() };
}

/** gen/ is what proto/ says; made aside, so that gen/ stays as it is. */
function generatedCode(): Outcome {
  return inTemporaryDirectory((directory) => {
    const generated = command("buf", "generate", "-o", directory);
    if (!generated.passed) return generated;
    const compared = command("diff", "-r", "gen", join(directory, "gen"));
    return compared.passed ? compared : { passed: false, text: `${compared.text}\nTry: npm run generate` };
  });
}

function breakingChanges(): Outcome {
  const branch = MAIN_BRANCHES.find((name) => command("git", "cat-file", "-e", `${name}:${PROTO}`).passed);
  if (branch === undefined) return { passed: true, text: "skipped, no main branch with a contract is here" };
  return inTemporaryDirectory((directory) => {
    // An archive and not buf's own reading of git, which needs more history than a shallow clone has.
    const archive = join(directory, "main.tar");
    const before = join(directory, "main");
    mkdirSync(before);
    for (const [program, ...args] of [
      ["git", "archive", `--output=${archive}`, branch, "proto", "buf.yaml"],
      ["tar", "-xf", archive, "-C", before],
    ] as const) {
      const outcome = command(program, ...args);
      if (!outcome.passed) return outcome;
    }
    const outcome = command("buf", "breaking", "--against", before);
    return outcome.passed ? { passed: true, text: `against ${branch}` } : outcome;
  });
}

function inTemporaryDirectory(run: (directory: string) => Outcome): Outcome {
  const directory = mkdtempSync(join(tmpdir(), "sa-check-"));
  try {
    return run(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}
