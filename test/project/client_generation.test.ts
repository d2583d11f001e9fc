// The commands and programs of docs/clients.md generate a client in each language, compile it, and call a running service.

import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify, stripVTControlCharacters } from "node:util";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const BIN = join(ROOT, "node_modules/.bin");
/** How long a language's tools may take to download; its tests are skipped after that. */
const SETUP_TIMEOUT_MS = 120_000;
/** A Rust program is compiled with all its packages. */
const RUN_TIMEOUT_MS = 540_000;

/** CI has no access to the package registries of five languages that it could rely on. */
const skip = process.env["CI"] ? "not in CI: it downloads packages of five languages" : redisServerMissing();

/** The programs that a language needs at all, and those that it needs to generate with buf or with protoc. */
type Needs = { readonly all: readonly string[]; readonly buf: readonly string[]; readonly protoc: readonly string[] };

/** By the heading of the language's section. */
const CLIENTS: Readonly<Record<string, Needs>> = {
  Go: { all: ["go"], buf: [], protoc: ["protoc"] },
  Python: { all: ["python3"], buf: ["grpc_python_plugin"], protoc: [] },
  Java: { all: ["mvn", "javac", "grpc_java_plugin"], buf: [], protoc: [] },
  Rust: { all: ["cargo"], buf: [], protoc: ["protoc"] },
  TypeScript: { all: ["npm"], buf: [], protoc: ["protoc"] },
};
const WITHOUT_PROGRAM = "C#, PHP and Ruby";
const NEEDED_WITHOUT_PROGRAM = ["protoc", "grpc_php_plugin", "grpc_ruby_plugin"];

/** A block of the page whose first line is, for example, "```sh client buf" or "```go client main.go". */
type Block = { readonly isCommand: boolean; readonly name: string | undefined; readonly text: string };

const page = readFileSync(join(ROOT, "docs/clients.md"), "utf8");
const [introduction, ...sections] = page
  .split(/^## Generate a client$/m)[1]!
  .split(/^## /m)[0]!
  .split(/^### /m);
const blocksOf = (section: string): Block[] =>
  [...section.matchAll(/^```(\w+) client(?: (\S+))?\n(.*?)^```$/gms)].map(([, language, name, text]) => ({
    isCommand: language === "sh",
    name,
    text: text!,
  }));
const blocksOfLanguage = new Map(sections.map((section) => [section.split("\n", 1)[0]!, blocksOf(section)]));

let authorities: Authorities;
let scratch: string;

before(async () => {
  scratch = mkdtempSync(join(tmpdir(), "sa-clients-"));
  if (!skip) authorities = await startAuthorities();
});
after(async () => {
  await authorities?.close();
  rmSync(scratch, { recursive: true });
});

/** Creates a user's project beside a checkout of this repository. Returns its folder. */
function createProject(language: string): string {
  const workspace = mkdtempSync(join(scratch, "workspace-"));
  symlinkSync(ROOT, join(workspace, "session-authority"));
  const project = join(workspace, "login");
  mkdirSync(project);
  for (const { isCommand, name, text } of blocksOfLanguage.get(language)!) {
    if (isCommand) continue;
    const file = join(project, name!);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
  }
  return project;
}

/** Runs the section's commands of that name, and returns what they print. */
async function runCommands(project: string, blocks: readonly Block[], name: string | undefined, timeout: number) {
  const commands = blocks.filter((block) => block.isCommand && block.name === name).map(({ text }) => text);
  const script = commands.join("\n").replaceAll("localhost:50051", authorities.servers[0]!.addresses.grpc!);
  // Without debug information, Rust compiles in half the time.
  const env = { ...process.env, PATH: [BIN, process.env["PATH"]].join(delimiter), CARGO_PROFILE_DEV_DEBUG: "0" };
  const options = { cwd: project, env, timeout, maxBuffer: 2 ** 26 };
  try {
    return (await promisify(execFile)("bash", ["-c", `set -euo pipefail\n${script}`], options)).stdout;
  } catch (error) {
    const { message, stdout, stderr } = error as { message: string; stdout: string; stderr: string };
    throw new Error(`${message}\n${stdout}\n${stderr}`);
  }
}

function missing(programs: readonly string[]): string | false {
  const lacking = programs.filter((program) => spawnSync("sh", ["-c", `command -v ${program}`]).status !== 0);
  return lacking.length > 0 && `${lacking.join(", ")} not installed`;
}

for (const [language, needs] of Object.entries(CLIENTS)) {
  describe(`a ${language} client`, { skip: skip || missing(needs.all) }, () => {
    const blocks = blocksOfLanguage.get(language)!;
    let project: string;
    /** Why the language's packages are not here, if they cannot be downloaded. */
    let notReady: string | undefined;

    before(async () => {
      project = createProject(language);
      await runCommands(project, blocksOf(introduction!), undefined, SETUP_TIMEOUT_MS);
      await runCommands(project, blocks, "setup", SETUP_TIMEOUT_MS).catch((error: Error) => {
        notReady = `its tools cannot be installed: ${error.message}`;
      });
    });

    for (const generator of ["buf", "protoc"] as const) {
      test(
        `generated with ${generator}, creates and validates a session`,
        { skip: missing(needs[generator]) },
        async (t) => {
          if (notReady !== undefined) return t.skip(notReady);
          for (const generated of ["gen", "contract.binpb"])
            rmSync(join(project, generated), { recursive: true, force: true });
          await runCommands(project, blocks, generator, SETUP_TIMEOUT_MS);
          const output = await runCommands(project, blocks, "call", RUN_TIMEOUT_MS);
          // Maven colours its output, also into a pipe.
          assert.match(stripVTControlCharacters(output), /^VERDICT_VALID eve$/m);
        },
      );
    }
  });
}

test("C#, PHP and Ruby code has its names", { skip: skip || missing(NEEDED_WITHOUT_PROGRAM) }, async () => {
  const project = createProject(WITHOUT_PROGRAM);
  await runCommands(project, blocksOf(introduction!), undefined, SETUP_TIMEOUT_MS);
  for (const generator of ["protoc", "buf"]) {
    await runCommands(project, blocksOfLanguage.get(WITHOUT_PROGRAM)!, generator, SETUP_TIMEOUT_MS);
  }
  const generated = (file: string) => readFileSync(join(project, "gen", file), "utf8");
  assert.match(generated("csharp/Session.cs"), /^namespace SessionAuthority\.V1 \{$/m);
  assert.match(generated("php/SessionAuthority/V1/SessionServiceClient.php"), /^namespace SessionAuthority\\V1;$/m);
  assert.match(generated("ruby/session/v1/session_service_services_pb.rb"), /^module SessionAuthority$/m);
});

test("every language of the page is tested", () => {
  assert.deepEqual([...blocksOfLanguage.keys()], [...Object.keys(CLIENTS), WITHOUT_PROGRAM]);
});
