// The consumers under examples/watch/ miss no change when their server is killed, nor when they are killed themselves.

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
/** How long a language's tools may take to download; its test is skipped after that. */
const TOOLS_TIMEOUT_MS = 60_000;
/** How many sessions end in each part of the test. */
const REVOCATIONS = 10;
const PAUSE_MS = 20;
const WAIT_MS = 30_000;

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

/** How to run a consumer: the program, and the arguments that come before the address and the position file. */
type Consumer = {
  readonly command: readonly [string, ...string[]];
  readonly scheme?: string;
  readonly env?: Record<string, string>;
};

describe("the examples of a watch", { concurrency: true }, () => {
  test("the TypeScript example misses nothing", { skip: noStore }, (t) =>
    missesNothing(t, async () => ({ command: ["node", join(EXAMPLES, "typescript/watch.ts")], scheme: "http://" })),
  );
  test("the Go example misses nothing", { skip: lacks("go", "version") }, (t) => missesNothing(t, buildGo));
  test("the Python example misses nothing", { skip: lacks("python3", "-c", "import venv, ensurepip") }, (t) =>
    missesNothing(t, preparePython),
  );

  test("docs/watch.md contains the TypeScript example", () => {
    const page = readFileSync(join(ROOT, "docs/watch.md"), "utf8");
    const quoted = /^```ts\n(.*?)^```$/ms.exec(page)?.[1];
    assert.equal(quoted, readFileSync(join(EXAMPLES, "typescript/watch.ts"), "utf8"));
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

/** Runs a step that needs the network. Without it, the test is skipped instead of failing. */
async function tools(program: string, args: readonly string[], options: object = {}): Promise<void> {
  try {
    await run(program, args, { timeout: TOOLS_TIMEOUT_MS, ...options });
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new ToolsMissing(`${program} ${args.join(" ")} failed: ${(stderr || stdout).trim().split("\n")[0]}`);
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
  const positionFile = join(scratch, `position-${t.name.replaceAll(" ", "-")}`);
  // The consumer must survive a position that no instance can read.
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
  const received = () => output.match(/^invalidated /gm)?.length ?? 0;
  const receivesMore = async (count: number, otherwise: string) => {
    const before = received();
    await until(() => received() >= before + count, otherwise);
  };
  await until(() => existsSync(positionFile) && readFileSync(positionFile, "utf8") !== "garbage", "it never began");
  assert.match(output, /^reset\n/);

  // Sessions keep ending, through an instance that is never killed.
  const revocations = startRevocations(t.name);
  await receivesMore(REVOCATIONS, "it received nothing");
  await server.kill();
  await revocations.more(REVOCATIONS);
  server = await startServer(address);
  await receivesMore(2 * REVOCATIONS, "it did not resume after the server's restart");
  child.kill("SIGKILL");
  await once(child, "exit");
  await revocations.more(REVOCATIONS);
  child = startConsumer();
  await receivesMore(2 * REVOCATIONS, "it did not resume after its own restart");
  const revoked = await revocations.stop();

  const missing = () => revoked.filter((id) => !output.includes(`invalidated ${id}\n`));
  await until(
    () => missing().length === 0,
    () => `missed ${missing().length} of ${revoked.length}\n${output}`,
  );
  assert.equal(output.match(/^reset$/gm)?.length, 1, "a resumed stream needed a reset");
}

/** Creates and ends sessions, one after the other, until it is stopped. */
function startRevocations(user: string) {
  const client = authorities.clients[0]!;
  const ids: string[] = [];
  let stopped = false;
  const loop = async () => {
    while (!stopped) {
      const { session } = await client.createSession({ userId: `${user} ${ids.length}` });
      await client.invalidateSession({ sessionId: session!.sessionId });
      ids.push(session!.sessionId);
      await sleep(PAUSE_MS);
    }
  };
  const ended = loop();
  ended.catch(() => undefined);
  return {
    /** Resolves when `count` more sessions have ended. */
    async more(count: number): Promise<void> {
      const before = ids.length;
      await until(() => ids.length >= before + count, "no more sessions end");
    },
    /** Resolves with the ids of the sessions that have ended. */
    async stop(): Promise<string[]> {
      stopped = true;
      await ended;
      return ids;
    },
  };
}

async function until(done: () => boolean, otherwise: string | (() => string)): Promise<void> {
  for (const deadlineMs = performance.now() + WAIT_MS; !done(); await sleep(20)) {
    if (performance.now() > deadlineMs) assert.fail(typeof otherwise === "string" ? otherwise : otherwise());
  }
}
