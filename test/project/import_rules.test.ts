// Imports run one way; the lint rules that hold it bite.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { after, test } from "node:test";

const directory = mkdtempSync(join(tmpdir(), "sa-imports-"));
after(() => rmSync(directory, { recursive: true }));
// Without types: there is no project around these files.
const rules = JSON.parse(readFileSync(".oxlintrc.json", "utf8")) as { options: object };
writeFileSync(join(directory, ".oxlintrc.json"), JSON.stringify({ ...rules, options: {} }));

const FORBIDDEN: readonly (readonly [file: string, specifier: string])[] = [
  ["src/domain/a.ts", "../store/keys.ts"],
  ["src/domain/a.ts", "../config.ts"],
  ["src/domain/a.ts", "../../gen/session/v1/session_pb.ts"],
  ["src/domain/a.ts", "redis"],
  ["src/domain/inner/a.ts", "../../rpc/errors.ts"],
  ["src/store/a.ts", "../service/sessions.ts"],
  ["src/store/a.ts", "../rpc/errors.ts"],
  ["src/store/a.ts", "../server.ts"],
  ["src/store/a.ts", "@grpc/grpc-js"],
  ["src/service/a.ts", "../rpc/errors.ts"],
  ["src/service/a.ts", "redis"],
  ["src/service/a.ts", "@connectrpc/connect"],
  ["src/rpc/a.ts", "redis"],
  ["src/rpc/a.ts", "../server.ts"],
  ["src/main.ts", "redis"],
  ["src/server.ts", "@grpc/grpc-js"],
  ["src/workers/a.ts", "redis"],
  ["src/workers/a.ts", "@grpc/grpc-js"],
  ["src/rpc/a.ts", "../workers/messages.ts"],
  ["src/store/a.ts", "../workers/messages.ts"],
  ["src/watch/a.ts", "../service/sessions.ts"],
  ["src/client/a.ts", "../domain/errors.ts"],
  ["src/client/a.ts", "../store/keys.ts"],
  ["src/client/a.ts", "../service/sessions.ts"],
];

const ALLOWED: readonly (readonly [file: string, specifier: string])[] = [
  ["src/domain/b.ts", "./errors.ts"],
  ["src/domain/b.ts", "node:crypto"],
  ["src/store/b.ts", "redis"],
  ["src/store/b.ts", "../domain/errors.ts"],
  ["src/service/b.ts", "../store/sessions.ts"],
  ["src/service/b.ts", "../../gen/session/v1/session_pb.ts"],
  ["src/rpc/b.ts", "@grpc/grpc-js"],
  ["src/rpc/b.ts", "@connectrpc/connect-node"],
  ["src/server.ts", "./store/connection.ts"],
  ["src/workers/b.ts", "../server.ts"],
  ["src/client/b.ts", "../../gen/session/v1/session_pb.ts"],
  ["src/client/b.ts", "@grpc/grpc-js"],
  ["test/b.ts", "redis"],
];

/** `file imports specifier` for each import that the rules refuse. */
function refused(imports: typeof FORBIDDEN): string[] {
  const files = new Map<string, string>();
  for (const [file, specifier] of imports) {
    // Types count as well: they tie the folders together just so.
    files.set(file, `${files.get(file) ?? ""}import type * as x${files.get(file)?.length ?? 0} from "${specifier}";\n`);
  }
  rmSync(join(directory, "src"), { recursive: true, force: true });
  for (const [file, text] of files) {
    mkdirSync(dirname(join(directory, file)), { recursive: true });
    writeFileSync(join(directory, file), text);
  }
  const oxlint = resolve("node_modules/.bin/oxlint");
  const { stdout } = spawnSync(oxlint, ["--format=json", "."], {
    cwd: directory,
    encoding: "utf8",
  });
  const { diagnostics } = JSON.parse(stdout) as {
    diagnostics: { code: string; filename: string; labels: { span: { line: number } }[] }[];
  };
  return diagnostics
    .filter(({ code }) => code.includes("no-restricted-imports"))
    .map(({ filename, labels }) => {
      const line = files.get(filename)!.split("\n")[labels[0]!.span.line - 1]!;
      return `${filename} imports ${/from "(.*)"/.exec(line)![1]}`;
    })
    .toSorted();
}

test("imports against the direction are refused", () => {
  assert.deepEqual(refused(FORBIDDEN), FORBIDDEN.map(([file, specifier]) => `${file} imports ${specifier}`).toSorted());
});

test("imports along the direction are not", () => {
  assert.deepEqual(refused(ALLOWED), []);
});
