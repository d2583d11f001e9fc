// The command line as a person or a process manager sees it: what it prints, where, and how it exits.

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { request } from "node:http";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { variableTexts } from "../../src/config/variables.ts";
import { redisServerMissing, startRedisServer, type RedisServer } from "../helpers/redis_server.ts";

const skip = redisServerMissing();
const directory = mkdtempSync(join(tmpdir(), "sa-cli-"));
let redis: RedisServer;
before(async () => {
  if (!skip) redis = await startRedisServer({ socket: true });
});
after(async () => {
  if (!skip) await redis.stop();
  rmSync(directory, { recursive: true });
});

type Running = { child: ChildProcess; stdout: () => string; stderr: () => string; exit: Promise<number | null> };

function start(args: readonly string[], env: Record<string, string> = {}): Running {
  const child = spawn(process.execPath, ["src/main.ts", ...args], {
    env: { PATH: process.env["PATH"], HOME: directory, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk) => (stdout += chunk));
  child.stderr.on("data", (chunk) => (stderr += chunk));
  const exit = once(child, "close").then(([code]) => code as number | null);
  return { child, stdout: () => stdout, stderr: () => stderr, exit };
}

async function run(args: readonly string[], env: Record<string, string> = {}) {
  const { exit, stdout, stderr } = start(args, env);
  return { code: await exit, stdout: stdout(), stderr: stderr() };
}

const sockets = () => ({
  SA_STORE_URL: redis.url,
  SA_GRPC_LISTEN: `unix:${join(directory, "grpc.sock")}`,
  SA_HTTP_LISTEN: `unix:${join(directory, "http.sock")}`,
});

/** Starts the service and waits until it serves. */
async function serve(env: Record<string, string> = {}): Promise<Running & { line: Record<string, unknown> }> {
  const running = start([], { ...sockets(), ...env });
  let ended = false;
  void running.exit.then(() => (ended = true));
  for (;;) {
    const line = running
      .stdout()
      .split("\n")
      .find((text) => text.includes('"msg":"serving"'));
    if (line !== undefined) return { ...running, line: JSON.parse(line) as Record<string, unknown> };
    if (ended) throw new Error(`it ended: ${running.stdout()}${running.stderr()}`);
    await sleep(20);
  }
}

for (const args of [["help"], ["--help"], ["-h"], ["serve", "--help"]]) {
  test(`${args.join(" ")}: the commands and every variable, with default and unit`, async () => {
    const { code, stdout, stderr } = await run(args, { SA_FAULT: "does not matter" });
    assert.deepEqual([code, stderr], [0, ""]);
    for (const word of ["serve", "healthcheck", "doctor", "keys", "--version"])
      assert.ok(stdout.includes(`  ${word}`), word);
    for (const { name, shape, default: fallback } of variableTexts()) {
      const entry = stdout
        .slice(stdout.indexOf(`  ${name}\n`))
        .split("\n")
        .slice(0, 3)
        .join("\n");
      assert.ok(entry.includes(`${shape}. Default: ${fallback}`.replaceAll("`", "")), entry);
    }
  });
}

test("--version", async () => {
  const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
  assert.deepEqual(await run(["--version"]), { code: 0, stdout: `${version}\n`, stderr: "" });
});

test("an unknown command or argument: exit code 2 and a hint", async () => {
  for (const args of [["sevre"], ["constructor"], ["doctor", "--fast"]]) {
    const { code, stdout, stderr } = await run(args);
    assert.deepEqual([code, stdout], [2, ""]);
    assert.match(stderr, /^session-authority: unknown (command|argument): (sevre|constructor|--fast)\nTry: .* help\n$/);
  }
});

test("keys: creates, rotates, lists and retires token keys without printing one", async () => {
  const file = join(directory, "token_keys.json");
  const outputs: string[] = [];
  for (const args of [
    ["generate", file],
    ["rotate", file],
    ["retire", file, "1"],
    ["list", file],
  ]) {
    const { code, stdout, stderr } = await run(["keys", ...args]);
    assert.deepEqual([code, stderr], [0, ""]);
    outputs.push(stdout);
  }
  assert.equal(outputs.at(-1), "1 retired\n2 active\n");
  assert.equal(statSync(file).mode & 0o777, 0o600);
  for (const { key } of (JSON.parse(readFileSync(file, "utf8")) as { keys: { key: string }[] }).keys) {
    assert.ok(!outputs.join("").includes(key));
  }
  const again = await run(["keys", "generate", file]);
  assert.equal(again.code, 1);
  assert.match(again.stderr, /exists; rotate it instead/);
  for (const args of [[], ["make", file], ["generate"], ["retire", file], ["retire", file, "x"], ["list", file, "1"]]) {
    assert.equal((await run(["keys", ...args])).code, 2, args.join(" "));
  }
});

for (const command of ["serve", "doctor", "healthcheck"]) {
  test(`${command} with a wrong configuration: every fault in plain text on stderr, exit code 2`, async () => {
    const env = { SA_STORE_URL: "redis://:hunter2@a,b", SA_IDLE_TIMEOUT: "10", SA_HTTP_LISTEN: "0.0.0.0:1" };
    const { code, stdout, stderr } = await run([command], env);
    assert.deepEqual([code, stdout], [2, ""]);
    const lines = stderr.trimEnd().split("\n");
    assert.equal(lines[0], "session-authority: the configuration has 3 faults:");
    assert.equal(lines.length, 4);
    for (const name of Object.keys(env))
      assert.ok(
        lines.some((line) => line.startsWith(`  ${name}`)),
        name,
      );
    assert.ok(!stderr.includes("hunter2"));
  });
}

describe("serve", { skip }, () => {
  test("logs its addresses and its store in one line, is ready, and exits with 0 on SIGTERM", async () => {
    const { child, line, exit, stdout, stderr } = await serve();
    assert.equal(line["grpc"], `unix:${join(directory, "grpc.sock")}`);
    assert.equal(line["http"], `unix:${join(directory, "http.sock")}`);
    assert.match(String(line["store"]), /^Redis|Valkey/);
    const health = await run(["healthcheck"], sockets());
    assert.equal(health.code, 0, health.stderr);
    assert.match(health.stdout, /^ready: HTTP on unix:/);
    child.kill("SIGTERM");
    assert.equal(await exit, 0);
    assert.equal(stderr(), "");
    for (const text of stdout().trimEnd().split("\n")) JSON.parse(text);
    const stopped = await run(["healthcheck"], sockets());
    assert.equal(stopped.code, 1);
    assert.match(stopped.stderr, /^not ready: HTTP on unix:/);
  });

  test("healthcheck calls gRPC if HTTP is off", async () => {
    const env = { ...sockets(), SA_HTTP_LISTEN: "off" };
    const { child, exit } = await serve(env);
    const health = await run(["healthcheck"], env);
    assert.deepEqual([health.code, health.stderr], [0, ""]);
    assert.match(health.stdout, /^ready: gRPC on unix:.*: SERVING\n$/);
    child.kill("SIGINT");
    assert.equal(await exit, 0);
  });

  test("a second signal ends it at once with 130; the echo of the first does not", async () => {
    const { child, exit } = await serve();
    // A call that waits for a store that hangs: the stop has to wait for it.
    redis.pause();
    try {
      const call = request({
        socketPath: join(directory, "http.sock"),
        method: "POST",
        path: "/session.v1.SessionService/CreateSession",
        headers: { "content-type": "application/json" },
      });
      call.on("error", () => undefined).end('{"user_id": "x"}');
      await sleep(200);
      child.kill("SIGINT");
      await sleep(20);
      child.kill("SIGINT");
      await sleep(300);
      assert.equal(child.exitCode, null);
      child.kill("SIGINT");
      assert.equal(await exit, 130);
    } finally {
      redis.resume();
    }
  });

  test("a start that fails: exit code 1, the reason and a hint", async () => {
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    const { port } = taken.address() as AddressInfo;
    for (const name of ["SA_GRPC_LISTEN", "SA_HTTP_LISTEN"]) {
      const { code, stderr } = await run([], { ...sockets(), [name]: `127.0.0.1:${port}` });
      assert.equal(code, 1);
      assert.match(
        stderr,
        /^session-authority: cannot start: .*EADDRINUSE.*\n {2}hint: another process has that address/,
      );
    }
    taken.close();
  });
});

describe("doctor", { skip }, () => {
  test("prints a line for each check and exits with 0 for a compatible store", async () => {
    const { code, stdout, stderr } = await run(["doctor"], sockets());
    assert.deepEqual([code, stderr], [0, ""]);
    const lines = stdout.trimEnd().split("\n");
    assert.ok(lines.length > 8);
    for (const line of lines) assert.match(line, /^(ok|warn) {1,3}\S/);
    assert.match(stdout, /^ok {3}EVAL works$/m);
    assert.match(lines.at(-1)!, /can hold sessions$/);
  });

  test("names the command that an incompatible store fails, and exits with 1", async () => {
    const incompatible = await startRedisServer({ socket: true, args: ["--rename-command", "HINCRBY", ""] });
    try {
      const { code, stdout } = await run(["doctor"], { ...sockets(), SA_STORE_URL: incompatible.url });
      assert.equal(code, 1);
      assert.match(stdout, /^FAIL HINCRBY: .+; .+$/m);
      assert.match(stdout, /^ok {3}EVAL works$/m);
      assert.match(stdout, /^FAIL .* cannot hold sessions$/m);
    } finally {
      await incompatible.stop();
    }
  });

  test("goes on after a check that fails, and reports all of them", async () => {
    const args = ["EVAL", "HINCRBY", "XADD", "SUBSCRIBE"].flatMap((name) => ["--rename-command", name, ""]);
    const incompatible = await startRedisServer({ socket: true, args });
    try {
      const { code, stdout } = await run(["doctor"], { ...sockets(), SA_STORE_URL: incompatible.url });
      assert.equal(code, 1);
      for (const name of ["EVAL", "HINCRBY", "XADD"]) assert.match(stdout, new RegExp(`^FAIL ${name}: .+`, "m"));
      assert.match(stdout, /^- {4}SUBSCRIBE skipped: it needs EVAL$/m);
      assert.match(stdout, /^ok {3}HSET works$/m);
      assert.match(stdout, /^ok {3}CONFIG GET maxmemory-policy works$/m);
    } finally {
      await incompatible.stop();
    }
  });

  test("--json prints one document, also for a wrong configuration", async () => {
    type Document = { healthy: boolean; checks: { check: string; status: string; text: string }[] };
    const good = await run(["doctor", "--json"], sockets());
    assert.deepEqual([good.code, good.stderr], [0, ""]);
    const { healthy, checks } = JSON.parse(good.stdout) as Document;
    assert.equal(healthy, true);
    for (const check of checks) assert.deepEqual(Object.keys(check).toSorted(), ["check", "status", "text"]);
    assert.ok(checks.some(({ check, status }) => check === "EVAL" && status === "ok"));
    assert.ok(
      checks.some(({ check, status, text }) => check === "settings" && status === "warning" && /appendonly/.test(text)),
    );

    const absent = await run(["doctor", "--json"], { SA_STORE_URL: "redis://:hunter2@127.0.0.1:1" });
    assert.equal(absent.code, 1);
    assert.deepEqual((JSON.parse(absent.stdout) as Document).healthy, false);
    assert.ok(!absent.stdout.includes("hunter2"));

    const wrong = await run(["doctor", "--json"], { SA_LOG_LEVEL: "loud", SA_WORKERS: "0" });
    assert.deepEqual([wrong.code, wrong.stderr], [2, ""]);
    const faults = JSON.parse(wrong.stdout) as Document;
    assert.equal(faults.healthy, false);
    assert.deepEqual(
      faults.checks.map(({ check, status }) => [check, status]),
      [
        ["configuration", "failed"],
        ["configuration", "failed"],
      ],
    );
    for (const command of ["serve", "healthcheck"]) assert.equal((await run([command, "--json"])).code, 2);
  });

  test("a start without a connection to the store says why", async () => {
    const store = await startRedisServer({ args: ["--requirepass", "secret"] });
    try {
      const { code, stderr } = await run([], { ...sockets(), SA_STORE_URL: store.url });
      assert.equal(code, 1);
      assert.match(stderr, /cannot start: the store is out of reach: NOAUTH/);
    } finally {
      await store.stop();
    }
  });

  test("prints why a store cannot be reached, without its password", async () => {
    const { code, stdout } = await run(["doctor"], { SA_STORE_URL: "redis://:hunter2@127.0.0.1:1" });
    assert.equal(code, 1);
    assert.match(stdout, /^FAIL store redis:\/\/127\.0\.0\.1:1: .*ECONNREFUSED/m);
    assert.ok(!stdout.includes("hunter2"));
  });
});
