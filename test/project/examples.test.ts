// The consumers under examples/watch/: each misses nothing while its server is killed and while it is killed itself.

import assert from "node:assert/strict";
import { execFile, spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { startServerProcess } from "../helpers/server_process.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const EXAMPLES = join(ROOT, "examples/watch");
/** What a language's own tools may take to come over the network, before its test is skipped. */
const TOOLS_TIMEOUT_MS = 60_000;
const REVOCATIONS = 60;

const run = promisify(execFile);
const noStore = redisServerMissing();
const lacks = (program: string, ...args: string[]) =>
  noStore || (spawnSync(program, args).status === 0 ? false : `${program} ${args.join(" ")} does not work here`);

class ToolsMissing extends Error {}

let authorities: Authorities;
let scratch: string;

before(async () => {
  scratch = mkdtempSync(join(tmpdir(), "sa-examples-"));
  if (!noStore) authorities = await startAuthorities();
});
after(async () => {
  await authorities?.close();
  rmSync(scratch, { recursive: true });
});

/** How to run a consumer: the program, and its arguments before the address and the position's file. */
type Consumer = {
  readonly command: readonly [string, ...string[]];
  readonly scheme?: string;
  readonly env?: Record<string, string>;
};

describe("the examples of a watch", { concurrency: true }, () => {
  test("TypeScript", { skip: noStore }, (t) =>
    missesNothing(t, async () => ({ command: ["node", join(EXAMPLES, "typescript/watch.ts")], scheme: "http://" })),
  );
  test("Go", { skip: lacks("go", "version") }, (t) => missesNothing(t, buildGo));
  test("Python", { skip: lacks("python3", "-m", "pip", "--version") }, (t) => missesNothing(t, preparePython));

  test("the page shows the file", () => {
    const page = readFileSync(join(ROOT, "docs/watch.md"), "utf8");
    const shown = /^```ts\n(.*?)^```$/ms.exec(page)?.[1];
    assert.equal(shown, readFileSync(join(EXAMPLES, "typescript/watch.ts"), "utf8"));
  });
});

async function buildGo(): Promise<Consumer> {
  const folder = join(scratch, "go");
  const bin = join(scratch, "go-bin");
  cpSync(join(EXAMPLES, "go"), folder, { recursive: true });
  await tools("go", ["install", "tool"], { cwd: folder, env: { ...process.env, GOBIN: bin } });
  await tools("go", ["mod", "download"], { cwd: folder });
  const env = { ...process.env, PATH: [bin, join(ROOT, "node_modules/.bin"), process.env["PATH"]].join(delimiter) };
  await run("buf", ["generate", "--template", join(folder, "buf.gen.yaml"), "-o", folder], { cwd: ROOT, env });
  await run("go", ["build", "-o", "watch", "."], { cwd: folder });
  return { command: [join(folder, "watch")] };
}

async function preparePython(): Promise<Consumer> {
  const folder = join(scratch, "python");
  const python = join(folder, "bin/python");
  await tools("python3", ["-m", "venv", folder]);
  await tools(python, ["-m", "pip", "install", "--quiet", "-r", join(EXAMPLES, "python/requirements.txt")]);
  const out = join(folder, "gen");
  mkdirSync(out);
  const generate = `-m grpc_tools.protoc -I. -Ithird_party --python_out=${out} --grpc_python_out=${out}`;
  await run("sh", ["-c", `exec ${python} ${generate} session/v1/*.proto buf/validate/validate.proto`], {
    cwd: join(ROOT, "proto"),
  });
  return { command: [python, join(EXAMPLES, "python/watch.py")], env: { PYTHONPATH: out } };
}

/** A step that needs the network: without it, the test is skipped and does not fail. */
async function tools(program: string, args: readonly string[], options: object = {}): Promise<void> {
  try {
    await run(program, args, { timeout: TOOLS_TIMEOUT_MS, ...options });
  } catch (error) {
    throw new ToolsMissing(`${program} ${args.join(" ")} failed: ${(error as Error).message.split("\n")[1] ?? ""}`);
  }
}

async function missesNothing(t: TestContext, prepare: () => Promise<Consumer>): Promise<void> {
  let consumer: Consumer;
  try {
    consumer = await prepare();
  } catch (error) {
    if (error instanceof ToolsMissing) return t.skip(error.message);
    throw error;
  }
  const positionFile = join(scratch, `position-${t.name}`);
  // The first thing it is to survive: a position that no instance can read.
  writeFileSync(positionFile, "garbage");
  const { command, scheme = "", env } = consumer;

  const startServer = (listen: string) => startServerProcess(authorities.redis, { SA_GRPC_LISTEN: listen });
  let server = await startServer("127.0.0.1:0");
  const { address } = server;
  let output = "";
  const startConsumer = () => {
    const [program, ...args] = command;
    const started = spawn(program, [...args, `${scheme}${address}`, positionFile], {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "ignore"],
    });
    started.stdout.on("data", (chunk) => (output += chunk));
    return started;
  };
  let child: ChildProcess = startConsumer();
  t.after(async () => {
    child.kill("SIGKILL");
    await server.kill();
  });
  await until(() => existsSync(positionFile) && readFileSync(positionFile, "utf8") !== "garbage", "it never began");
  assert.match(output, /^reset\n/);

  // Sessions end all the while, on an instance that nothing happens to.
  const revoking = revokeMany(t.name);
  await sleep(1000);
  await server.kill();
  await sleep(1000);
  server = await startServer(address);
  await sleep(1500);
  child.kill("SIGKILL");
  await once(child, "exit");
  await sleep(500);
  child = startConsumer();
  const revoked = await revoking;

  const missing = () => revoked.filter((id) => !output.includes(`invalidated ${id}\n`));
  await until(
    () => missing().length === 0,
    () => `missed ${missing().length} of ${revoked.length}\n${output}`,
  );
  assert.equal(output.match(/^reset$/gm)?.length, 1, "the resumed streams were to need no reset");
}

/** Ends sessions one after the other, for about 6 s; their ids. */
async function revokeMany(userId: string): Promise<string[]> {
  const client = authorities.clients[0]!;
  const ids: string[] = [];
  for (let i = 0; i < REVOCATIONS; i++) {
    const { session } = await client.createSession({ userId: `${userId}-${i}` });
    await client.invalidateSession({ sessionId: session!.sessionId });
    ids.push(session!.sessionId);
    await sleep(100);
  }
  return ids;
}

async function until(done: () => boolean, otherwise: string | (() => string)): Promise<void> {
  for (const deadlineMs = performance.now() + 15_000; !done(); await sleep(20)) {
    if (performance.now() > deadlineMs) assert.fail(typeof otherwise === "string" ? otherwise : otherwise());
  }
}
