// The lint rules refuse imports between folders against the direction that oxlint.config.ts states, and allow the others.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { globSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { after, test } from "node:test";

type Import = readonly [file: string, specifier: string];

const directory = mkdtempSync(join(tmpdir(), "sa-imports-"));
after(() => rmSync(directory, { recursive: true }));
// Type-aware rules are off, because the sample files belong to no TypeScript project.
writeFileSync(
  join(directory, "oxlint.config.ts"),
  `import config from ${JSON.stringify(resolve("oxlint.config.ts"))};
   export default { ...config, options: {} };`,
);

const FORBIDDEN: readonly Import[] = [
  ["src/lib/a.ts", "../domain/errors.ts"],
  ["src/lib/a.ts", "../../gen/session/v1/session_pb.ts"],
  ["src/domain/a.ts", "../store/keys.ts"],
  ["src/domain/a.ts", "../config/config.ts"],
  ["src/domain/a.ts", "../../gen/session/v1/session_pb.ts"],
  ["src/domain/a.ts", "redis"],
  ["src/domain/inner/a.ts", "../../rpc/errors.ts"],
  ["src/store/a.ts", "../watch/filters.ts"],
  ["src/store/a.ts", "../service/watch.ts"],
  ["src/store/a.ts", "../rpc/errors.ts"],
  ["src/store/a.ts", "../workers/messages.ts"],
  ["src/store/a.ts", "../server.ts"],
  ["src/store/a.ts", "@grpc/grpc-js"],
  ["src/store/connection/a.ts", "../../config/config.ts"],
  ["src/store/connection/a.ts", "../../../gen/session/v1/session_pb.ts"],
  ["src/watch/a.ts", "../service/watch.ts"],
  ["src/watch/a.ts", "redis"],
  ["src/service/a.ts", "../rpc/errors.ts"],
  ["src/service/a.ts", "../auth/scopes.ts"],
  ["src/service/a.ts", "redis"],
  ["src/service/a.ts", "@connectrpc/connect"],
  ["src/service/validation/a.ts", "../../transport/grpc/frames.ts"],
  ["src/auth/a.ts", "../service/handlers.ts"],
  ["src/auth/a.ts", "@grpc/grpc-js"],
  ["src/rpc/a.ts", "../store/keys.ts"],
  ["src/rpc/a.ts", "../ops/health.ts"],
  ["src/rpc/a.ts", "../transport/listener.ts"],
  ["src/rpc/a.ts", "../server.ts"],
  ["src/rpc/a.ts", "../workers/messages.ts"],
  ["src/rpc/a.ts", "redis"],
  ["src/ops/a.ts", "../transport/http/http_host.ts"],
  ["src/ops/a.ts", "../config/config.ts"],
  ["src/transport/http/a.ts", "../../service/handlers.ts"],
  ["src/transport/http/a.ts", "../../server.ts"],
  ["src/transport/grpc/a.ts", "redis"],
  ["src/config/a.ts", "../store/keys.ts"],
  ["src/config/a.ts", "../store/connection/connection.ts"],
  ["src/config/a.ts", "../server.ts"],
  ["src/cli/a.ts", "../workers/primary.ts"],
  ["src/cli/a.ts", "../main.ts"],
  ["src/workers/a.ts", "../main.ts"],
  ["src/workers/a.ts", "../cli/doctor.ts"],
  ["src/workers/a.ts", "redis"],
  ["src/workers/a.ts", "@grpc/grpc-js"],
  ["src/client/a.ts", "../domain/errors.ts"],
  ["src/client/a.ts", "../lib/base64url.ts"],
  ["src/client/a.ts", "redis"],
  ["src/server.ts", "./workers/primary.ts"],
  ["src/server.ts", "./cli/doctor.ts"],
  ["src/server.ts", "./main.ts"],
  ["src/server.ts", "@grpc/grpc-js"],
  ["src/main.ts", "redis"],
];

const ALLOWED: readonly Import[] = [
  ["src/lib/b.ts", "./base64url.ts"],
  ["src/domain/b.ts", "../lib/base64url.ts"],
  ["src/domain/b.ts", "./errors.ts"],
  ["src/domain/b.ts", "node:crypto"],
  ["src/domain/b.ts", "../../gen/session/v1/errors_pb.ts"],
  ["src/store/b.ts", "redis"],
  ["src/store/b.ts", "../domain/errors.ts"],
  ["src/store/connection/b.ts", "../keys.ts"],
  ["src/store/connection/b.ts", "../../domain/errors.ts"],
  ["src/watch/b.ts", "../store/watch_change_log.ts"],
  ["src/watch/b.ts", "../../gen/session/v1/watch_pb.ts"],
  ["src/service/b.ts", "../store/simple_sessions.ts"],
  ["src/service/b.ts", "../watch/subscription.ts"],
  ["src/service/b.ts", "../../gen/session/v1/session_pb.ts"],
  ["src/service/validation/b.ts", "../../../gen/session/v1/session_pb.ts"],
  ["src/auth/b.ts", "../domain/call.ts"],
  ["src/rpc/b.ts", "../service/handlers.ts"],
  ["src/rpc/b.ts", "../auth/scopes.ts"],
  ["src/rpc/b.ts", "@connectrpc/connect"],
  ["src/ops/b.ts", "../rpc/routes.ts"],
  ["src/ops/b.ts", "prom-client"],
  ["src/transport/grpc/b.ts", "../../rpc/pipeline.ts"],
  ["src/transport/grpc/b.ts", "@grpc/grpc-js"],
  ["src/transport/http/b.ts", "../../ops/readiness.ts"],
  ["src/transport/http/b.ts", "@connectrpc/connect-node"],
  ["src/config/b.ts", "../store/connection/store_url.ts"],
  ["src/cli/b.ts", "../config/config.ts"],
  ["src/cli/b.ts", "../../gen/grpc/health/v1/health_pb.ts"],
  ["src/cli/b.ts", "@connectrpc/connect"],
  ["src/workers/b.ts", "../server.ts"],
  ["src/client/b.ts", "../../gen/session/v1/session_pb.ts"],
  ["src/client/b.ts", "@grpc/grpc-js"],
  ["src/server.ts", "./store/connection/connection.ts"],
  ["src/main.ts", "./workers/primary.ts"],
  ["test/b.ts", "redis"],
];

/** Lints files that hold these imports. Returns `file imports specifier` for each import that the rule refuses. */
function refusedImports(imports: readonly Import[], rule = "no-restricted-imports"): string[] {
  const files = new Map<string, string[]>();
  for (const [file, specifier] of imports) {
    // The import of a type must be refused as well, because it ties the folders together as much as one of a value.
    const lines = files.get(file) ?? [];
    lines.push(`import type * as x${lines.length} from "${specifier}";`);
    files.set(file, lines);
  }
  rmSync(join(directory, "src"), { recursive: true, force: true });
  for (const [file, lines] of files) {
    mkdirSync(dirname(join(directory, file)), { recursive: true });
    writeFileSync(join(directory, file), lines.join("\n"));
  }
  const oxlint = resolve("node_modules/.bin/oxlint");
  const { stdout, stderr } = spawnSync(oxlint, ["--format=json", "."], { cwd: directory, encoding: "utf8" });
  assert.ok(stdout.startsWith("{"), stdout + stderr);
  const { diagnostics } = JSON.parse(stdout) as {
    diagnostics: { code: string; filename: string; labels: { span: { line: number } }[] }[];
  };
  return diagnostics
    .filter(({ code }) => code.includes(rule))
    .map(({ filename, labels }) => {
      const line = files.get(filename)![labels[0]!.span.line - 1]!;
      return `${filename} imports ${/from "(.*)"/.exec(line)![1]}`;
    })
    .toSorted();
}

function describeImports(imports: readonly Import[]): string[] {
  return imports.map(([file, specifier]) => `${file} imports ${specifier}`).toSorted();
}

test("imports against the direction are refused", () => {
  assert.deepEqual(refusedImports(FORBIDDEN), describeImports(FORBIDDEN));
});

test("imports along the direction are allowed", () => {
  assert.deepEqual(refusedImports(ALLOWED), []);
});

test("every file of src is under a rule, and no rule lets it import a folder that is not named there", () => {
  const imports = globSync("src/**/*.ts").map((file): Import => {
    const depth = file.split("/").length - 2;
    return [file, depth === 0 ? "redis" : `${"../".repeat(depth)}unknown/a.ts`];
  });
  assert.ok(imports.length > 100);
  assert.deepEqual(refusedImports(imports), describeImports(imports));
});

test("a cycle of type imports is refused", () => {
  const cycle: readonly Import[] = [
    ["src/domain/a.ts", "./b.ts"],
    ["src/domain/b.ts", "./c.ts"],
    ["src/domain/c.ts", "./a.ts"],
  ];
  assert.deepEqual(refusedImports(cycle, "no-cycle"), describeImports(cycle));
});
