// Lints src/store/lua with luacheck: each script as the store gets it, with its includes in place. Findings name the file and
// line of the source. Exits with 1 if there are any.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assembleScript, parseHeader, readLua, SCRIPT_NAMES, type SourceLine } from "../src/store/script_source.ts";

const GLOBALS = ["redis", "struct", "cjson", "cmsgpack", "bit", "KEYS", "ARGV"];
const MAX_LINE_LENGTH = 125;
const FOLDER = "src/store/lua";
/** The codes of a local, argument or loop variable that shadows another. */
const SHADOWING = /^W4[23]/;

/** A finding of luacheck at a line of the source. */
type Finding = { readonly source: SourceLine; readonly code: string; readonly message: string };

process.exitCode = main();

function main(): number {
  const folder = mkdtempSync(join(tmpdir(), "sa-lint-lua-"));
  try {
    const scripts = new Map(SCRIPT_NAMES.map((name) => [name, assembleScript(name)]));
    for (const [name, lines] of scripts) {
      // luacheck takes no shebang with flags; the empty line keeps the numbers.
      writeFileSync(join(folder, `${name}.lua`), ["", ...lines.slice(1).map(({ text }) => text)].join("\n"));
    }
    const output = runLuacheck(folder);
    if (output === undefined) {
      process.stdout.write("skipped: luacheck is not installed (Debian: apt-get install lua-check)\n");
      return 0;
    }
    const reports = reportable(parseFindings(output, scripts), scripts);
    process.stdout.write(reports.map((report) => `${report}\n`).join(""));
    return reports.length > 0 ? 1 : 0;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Returns what luacheck prints, or undefined if it is not installed. @throws Error if it fails to run. */
function runLuacheck(folder: string): string | undefined {
  const options = ["--std", "lua51", "--codes", "--formatter", "plain", "--no-config", "--no-cache"];
  const limits = ["--max-line-length", String(MAX_LINE_LENGTH)];
  const files = SCRIPT_NAMES.map((name) => `${name}.lua`);
  const args = [...files, ...options, ...limits, "--read-globals", ...GLOBALS];
  const { status, stdout, stderr, error } = spawnSync("luacheck", args, { cwd: folder, encoding: "utf8" });
  if (error !== undefined && (error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
  // 0: no findings, 1: warnings, 2: syntax errors; above that luacheck itself has failed.
  if (error !== undefined || status === null || status > 2) throw error ?? new Error(`luacheck failed: ${stderr}`);
  return stdout;
}

function parseFindings(output: string, scripts: ReadonlyMap<string, readonly SourceLine[]>): Finding[] {
  return output
    .trim()
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [, name, number, code, message] = /^(\w+)\.lua:(\d+):\d+: \(([EW]\d+)\) (.*)$/.exec(line) ?? [];
      const source = scripts.get(name ?? "")?.[Number(number) - 1];
      if (source === undefined) throw new Error(`cannot read this line of luacheck: ${line}`);
      return { source, code: code!, message: message! };
    });
}

/** Drops what an assembled script cannot help, and reports each finding of an include once. */
function reportable(findings: readonly Finding[], scripts: ReadonlyMap<string, readonly SourceLine[]>): string[] {
  const counts = new Map<string, number>();
  const reports = new Set<string>();
  for (const { source, code, message } of findings) {
    const { file, line } = source;
    const isInclude = file.startsWith("includes/");
    // KEYS are declared for the cluster, also those that a script reaches through an include's function.
    const variable = /'(\w+)'/.exec(message)?.[1] ?? "";
    if (isUnused(code) && parseHeader(readLua(file)!).keys.includes(variable)) continue;
    // The parameters of an include's function cannot avoid the names of every script.
    if (isInclude && SHADOWING.test(code)) continue;
    const report = `${FOLDER}/${file}.lua:${line}: ${message} (${code})`;
    if (!isInclude || !isUnused(code)) {
      reports.add(report);
      continue;
    }
    // An include's local is dead code only if every script that includes it does not use it.
    const count = (counts.get(report) ?? 0) + 1;
    counts.set(report, count);
    if (count === [...scripts.values()].filter((lines) => lines.some((other) => other.file === file)).length) {
      reports.add(`${report}, and no script uses it`);
    }
  }
  return [...reports].toSorted();
}

/** An unused variable, or one that is assigned but not read. */
function isUnused(code: string): boolean {
  return /^W2[13]/.test(code);
}
