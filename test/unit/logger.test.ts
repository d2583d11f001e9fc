// The log: JSON lines in which no credential appears, however it got there.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createLogger, redactText, redactUrl } from "../../src/ops/logger.ts";

const SESSION_ID = "Ab3dEfGh1jKlMnOpQrStUvWxYz-_";
const TOKEN = "sat1_AAEC-_x";

function logged(write: (log: ReturnType<typeof createLogger>) => void): Record<string, unknown> {
  let text = "";
  write(createLogger({ logLevel: "info" }, { write: (line) => void (text += line) }));
  return JSON.parse(text) as Record<string, unknown>;
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

test("credentials are redacted inside messages, errors and stacks", () => {
  const line = logged((log) =>
    log.error(
      { err: new Error(`cannot read sa:{00a}:s:${SESSION_ID}`, { cause: new Error(`bad ${TOKEN}`) }) },
      `redis://user:hunter2@host:1 with Authorization: Bearer hunter2hunter2`,
    ),
  );
  const text = JSON.stringify(line);
  for (const secret of [SESSION_ID, TOKEN, "hunter2"]) assert.ok(!text.includes(secret), text);
  assert.ok(text.includes("cannot read sa:{00a}:s:[redacted]"));
});

test("what is no credential stays", () => {
  const text = "http://localhost:8080/x GetSession createServiceImplementations 0123456789abcdef0123456789ab 10 s";
  assert.equal(redactText(text), text);
  assert.equal(redactUrl("redis://a:p@ss/w@h:1/2"), "redis://[redacted]@h:1/2");
  assert.equal(redactUrl("redis://h:1/2"), "redis://h:1/2");
});
