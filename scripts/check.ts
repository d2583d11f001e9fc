// `npm run check`: every check that reads the code without running it. The checks run in parallel; each prints one line, and
// its findings if it fails.
//
// `npm run check -- oxlint knip` runs only those.

import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { stripVTControlCharacters } from "node:util";

type Outcome = { readonly passed: boolean; readonly text: string };
type Check = { readonly name: string; readonly run: () => Promise<Outcome> };

/** Where tsc and knip keep what they know of files that have not changed since. */
const CACHE = "node_modules/.cache";
const PROTO = "proto/session";
/** The contract that callers have been promised, as a buf image: `npm run contract:promise` writes it. */
const CONTRACT_BASELINE = "proto/baseline.binpb";

/** The slowest checks come first, so that no processor is idle at the end. */
const CHECKS: readonly Check[] = [
  // Its rules include the imports that are allowed between the folders of src.
  { name: "oxlint", run: () => command("oxlint") },
  {
    name: "tsc",
    run: () => command("tsc", "-p", ".", "--incremental", "--tsBuildInfoFile", `${CACHE}/tsc.tsbuildinfo`),
  },
  { name: "knip", run: () => knip("knip") },
  {
    name: "knip-production",
    run: () => knip("knip-production", "--production", "--include", "files,dependencies,unlisted,unresolved"),
  },
  { name: "generated", run: compareGeneratedCode },
  { name: "buf-breaking", run: findBreakingChanges },
  { name: "buf-lint", run: () => command("buf", "lint") },
  { name: "buf-format", run: () => command("buf", "format", "--diff", "--exit-code", "--path", PROTO) },
  { name: "luacheck", run: lintLua },
  { name: "words", run: () => command("node", "scripts/check_words.ts") },
  { name: "oxfmt", run: () => command("oxfmt", "--check", ".") },
];

process.exitCode = await main(process.argv.slice(2));

/** Runs the named checks, or all of them. Returns the exit code: 0 if all passed, 1 if one failed, 2 for an unknown name. */
async function main(names: readonly string[]): Promise<number> {
  const unknown = names.filter((name) => !CHECKS.some((check) => check.name === name));
  if (unknown.length > 0) {
    process.stderr.write(
      `no such check: ${unknown.join(", ")}; there are ${CHECKS.map(({ name }) => name).join(", ")}\n`,
    );
    return 2;
  }
  const waiting = CHECKS.filter(({ name }) => names.length === 0 || names.includes(name));
  let failed = 0;
  const runWaiting = async () => {
    for (let check = waiting.shift(); check; check = waiting.shift()) {
      if (!(await runCheck(check))) failed++;
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, runWaiting));
  return failed > 0 ? 1 : 0;
}

/** Runs a check and prints its outcome. Returns true if it passed. */
async function runCheck({ name, run }: Check): Promise<boolean> {
  const startedMs = performance.now();
  const { passed, text } = await run();
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  const details = text === "" ? "" : passed ? `: ${text}` : `\n${text}`;
  process.stdout.write(`${passed ? "ok  " : "FAIL"} ${name} (${seconds} s)${details}\n`);
  return passed;
}

/** Runs one of the project's tools. The check passes if it exits with 0; what it prints is the text of the outcome. */
function runTool(program: string, ...args: string[]): Promise<Outcome> {
  const env = {
    ...process.env,
    NO_COLOR: "1",
    PATH: [resolve("node_modules/.bin"), process.env["PATH"]].join(delimiter),
  };
  return new Promise((done) => {
    execFile(program, args, { env, maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      const output = stripVTControlCharacters(`${stdout}${stderr}`).trimEnd();
      done({ passed: error === null, text: output === "" && error ? error.message : output });
    });
  });
}

/** Runs one of the project's tools, and leaves out what it prints unless it fails. */
async function command(program: string, ...args: string[]): Promise<Outcome> {
  const { passed, text } = await runTool(program, ...args);
  return { passed, text: passed ? "" : text };
}

/** Finds unused code. Runs at the same time must not share a cache. */
function knip(cache: string, ...options: string[]): Promise<Outcome> {
  return command("knip", "--no-config-hints", "--cache", "--cache-location", `${CACHE}/${cache}`, ...options);
}

/** Compares gen/ with code that is generated from proto/ into a temporary directory. */
function compareGeneratedCode(): Promise<Outcome> {
  return inTemporaryDirectory(async (directory) => {
    const generated = await command("buf", "generate", "-o", directory);
    if (!generated.passed) return generated;
    const compared = await command("diff", "-r", "gen", join(directory, "gen"));
    return compared.passed ? compared : { passed: false, text: `${compared.text}\nTry: npm run generate` };
  });
}

/** Compares the contract with the one that callers have been promised, so that no change of it breaks them. */
function findBreakingChanges(): Promise<Outcome> {
  return inTemporaryDirectory(async (directory) => {
    const contract = join(directory, "contract.binpb");
    const built = await command("buf", "build", "--exclude-source-info", "--output", contract);
    return built.passed ? command("buf", "breaking", contract, "--against", CONTRACT_BASELINE) : built;
  });
}

/** Lints the Lua scripts. The linter may be missing on this machine; then its line that starts with "skipped" is printed. */
async function lintLua(): Promise<Outcome> {
  const { passed, text } = await runTool("node", "scripts/lint_lua.ts");
  if (!passed) return { passed, text };
  return { passed, text: text.split("\n").find((line) => line.startsWith("skipped")) ?? "" };
}

async function inTemporaryDirectory(run: (directory: string) => Promise<Outcome>): Promise<Outcome> {
  const directory = mkdtempSync(join(tmpdir(), "sa-check-"));
  try {
    return await run(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}
