// The log: its lines as JSON and as text for people, and that no credential gets into either.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { stripVTControlCharacters } from "node:util";
import type { Logger } from "pino";
import { createLogger, formatForPeople, redactText, redactUrl } from "../../src/ops/logger.ts";

const SESSION_ID = "Ab3dEfGh1jKlMnOpQrStUvWxYz-_";
const TOKEN = "sat1_AAEC-_x";

function logged(write: (log: Logger) => void): Record<string, unknown> {
  let text = "";
  write(createLogger({ logLevel: "info" }, { write: (line) => void (text += line) }));
  return JSON.parse(text) as Record<string, unknown>;
}

async function loggedForPeople(write: (log: Logger) => void): Promise<string> {
  let text = "";
  write(createLogger({ logLevel: "info" }, await formatForPeople({ write: (line) => void (text += line) })));
  return text;
}

test("a line has its level by name, an ISO time and the service", () => {
  const line = logged((log) => log.warn({ port: 1 }, "hello"));
  assert.equal(line["level"], "warn");
  assert.equal(line["service"], "session-authority");
  assert.equal(line["msg"], "hello");
  assert.equal(line["port"], 1);
  assert.match(String(line["time"]), /^\d{4}-\d\d-\d\dT.*Z$/);
});

test("credentials are redacted by their name, at any depth that is logged", () => {
  const line = logged((log) =>
    log
      .child({ sessionId: "s1" })
      .info({ token: "s2", a: { password: "s3", b: { authorization: "s4", c: { session_id: "s5" } } } }),
  );
  assert.ok(!/s[1-5]"/.test(JSON.stringify(line)), JSON.stringify(line));
});

function logCredentials(log: Logger): void {
  log.error(
    { err: new Error(`cannot read sa:{00a}:s:${SESSION_ID}`, { cause: new Error(`bad ${TOKEN}`) }) },
    `redis://user:hunter2@host:1 with Authorization: Bearer hunter2hunter2`,
  );
  log.info(TOKEN);
}

test("credentials are redacted inside messages, errors and stacks", async () => {
  const json: string[] = [];
  logCredentials(createLogger({ logLevel: "info" }, { write: (line) => void json.push(line) }));
  const text = await loggedForPeople(logCredentials);
  for (const written of [json.join(""), text]) {
    for (const secret of [SESSION_ID, TOKEN, "hunter2"]) assert.ok(!written.includes(secret), written);
    assert.ok(written.includes("cannot read sa:{00a}:s:[redacted]"), written);
  }
});

test("a line for people has the time, the level, the message and its fields", async () => {
  const text = await loggedForPeople((log) => log.warn({ port: 1 }, "hello"));
  assert.match(stripVTControlCharacters(text), /^\[\d\d:\d\d:\d\d\.\d{3}\] WARN: hello \{"port":1\} *\n$/);
});

test(
  "stdout gets lines for people if it is a terminal, and JSON otherwise",
  { skip: spawnSync("script", ["--version"]).error ? "script of util-linux is not installed" : false },
  () => {
    const module = new URL("../../src/ops/logger.ts", import.meta.url).href;
    const program = `
      const { createLogger, openLogOutput } = await import(${JSON.stringify(module)});
      createLogger({ logLevel: "info" }, await openLogOutput()).info("Bearer hunter2hunter2");
      process.exit();`;
    const arguments_ = ["--input-type=module", "--eval", program];
    const piped = spawnSync(process.execPath, arguments_, { encoding: "utf8" });
    assert.equal((JSON.parse(piped.stdout) as { msg: string }).msg, "Bearer [redacted]");
    const command = [process.execPath, ...arguments_].map((word) => `'${word}'`).join(" ");
    const terminal = spawnSync("script", ["--quiet", "--command", command, "/dev/null"], { encoding: "utf8" });
    assert.match(terminal.stdout, /INFO.*Bearer \[redacted\]/);
    assert.doesNotMatch(terminal.stdout, /"msg"|hunter2/);
  },
);

test("what is no credential stays", () => {
  const text = "http://localhost:8080/x GetSession createServiceImplementations 0123456789abcdef0123456789ab 10 s";
  assert.equal(redactText(text), text);
  assert.equal(redactUrl("redis://a:p@ss/w@h:1/2"), "redis://[redacted]@h:1/2");
  assert.equal(redactUrl("redis://h:1/2"), "redis://h:1/2");
});
