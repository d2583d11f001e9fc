// The scripts' source and runs: includes, the list of operations, what is sent to the store, and what outcomes become.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { StoreReplyError, type StoreArguments, type StoreReply } from "../../src/store/connection/connection.ts";
import type { Scope } from "../../src/domain/scope.ts";
import { createScripts } from "../../src/store/scripts.ts";
import { assembleScript, SCRIPT_NAMES } from "../../src/store/script_source.ts";

const CALL = { deadlineMs: Infinity, signal: new AbortController().signal };

function reader(files: Record<string, string>): (name: string) => string | undefined {
  return (name) => files[name];
}

test("the list of operations is what is on disk", () => {
  const files = readdirSync(new URL("../../src/store/lua/", import.meta.url), { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name);
  assert.deepEqual(
    [...SCRIPT_NAMES].sort(),
    files.map((file) => file.replace(/\.lua$/, "")).sort(),
    "SCRIPT_NAMES in src/store/script_source.ts is not the list of src/store/lua/*.lua",
  );
});

function assembled(name: string, read?: (name: string) => string | undefined): string {
  return assembleScript(name, read)
    .map(({ text }) => text)
    .join("\n");
}

test("every operation can be assembled", () => {
  for (const name of SCRIPT_NAMES) {
    const [first, ...others] = assembled(name).split("\n");
    assert.match(first!, /^#!lua( flags=[a-z-]+)?$/, name);
    assert.doesNotMatch(others.join("\n"), /^#!|@include/m, name);
  }
});

test("an include takes the place of its line, once, and may include others", () => {
  const read = reader({
    top: "#!lua\n-- @include includes/a\n-- @include includes/b\nreturn 1",
    "includes/a": "-- @include includes/b\nlocal a",
    "includes/b": "local b",
  });
  assert.equal(assembled("top", read), "#!lua\nlocal b\nlocal a\nreturn 1");
});

test("each line of an assembled script has the file and line of its source", () => {
  const read = reader({ top: "#!lua\n-- @include includes/a\nreturn 1", "includes/a": "local a" });
  assert.deepEqual(assembleScript("top", read), [
    { text: "#!lua", file: "top", line: 1 },
    { text: "local a", file: "includes/a", line: 1 },
    { text: "return 1", file: "top", line: 3 },
  ]);
});

test("a store that does not take the shebang gets the script without its first line", async () => {
  const texts = await Promise.all(
    [true, false].map(async (shebang) => {
      const { scripts, sent } = scriptsReplying(lacksScripts, shebang);
      await scripts.run("sweep_expired", ["k", "l", "t", "m"], ["1", "2"], CALL);
      return String(sent[1]![1]);
    }),
  );
  assert.match(texts[0]!, /^#!lua flags=allow-oom\n/);
  assert.equal(texts[1], texts[0]!.replace(/^.*\n/, ""));
});

test("a circle of includes is an error that names it", () => {
  const read = reader({
    top: "-- @include includes/a",
    "includes/a": "-- @include includes/b",
    "includes/b": "-- @include includes/a",
  });
  assert.throws(() => assembled("top", read), /top -> includes\/a -> includes\/b -> includes\/a/);
});

test("a missing include is an error that names both files", () => {
  assert.throws(
    () => assembled("top", reader({ top: "-- @include includes/gone" })),
    /includes\/gone\.lua does not exist, but top\.lua includes it/,
  );
});

function scriptsReplying(replyTo: (args: StoreArguments) => StoreReply, shebang = true) {
  const sent: StoreArguments[] = [];
  const nodes: string[] = [];
  const connection = {
    async send(key: string, args: StoreArguments): Promise<StoreReply> {
      nodes.push(key);
      sent.push(args);
      return replyTo(args);
    },
  };
  return { scripts: createScripts({ connection, shebang }), sent, nodes };
}

function lacksScripts([command]: StoreArguments): StoreReply {
  if (command === "EVALSHA") throw new StoreReplyError("NOSCRIPT No matching script. Please use EVAL.");
  return [Buffer.from("ok"), Buffer.from("x")];
}

const KEYS = ["live", "log", "tail", "meta"];

test("a script is sent by its hash, to the node of its first key, and in full only if the store lacks it", async () => {
  const { scripts, sent, nodes } = scriptsReplying(lacksScripts);
  const reply = await scripts.run("sweep_expired", KEYS, ["a", Buffer.from([255])], CALL);
  assert.deepEqual(reply, { outcome: "ok", values: [Buffer.from("x")] });
  assert.deepEqual(nodes, ["live", "live"]);
  assert.deepEqual(
    sent.map(([command]) => command),
    ["EVALSHA", "EVAL"],
  );
  assert.equal(sent[0]![1], createHash("sha1").update(sent[1]![1]!).digest("hex"));
  assert.deepEqual(sent[1]!.slice(2), ["4", ...KEYS, "a", Buffer.from([255])]);
});

test("any other error is passed on, and nothing is sent again", async () => {
  const { scripts, sent } = scriptsReplying(() => {
    throw new StoreReplyError("WRONGTYPE Operation against a key");
  });
  await assert.rejects(scripts.run("sweep_expired", KEYS, ["1", "2"], CALL), { code: "WRONGTYPE" });
  assert.equal(sent.length, 1);
});

for (const reply of [null, 1, "OK", Buffer.from("ok"), [], [1, 2], [[Buffer.from("ok")]]] satisfies StoreReply[]) {
  test(`a reply without an outcome is an internal error: ${JSON.stringify(reply)}`, async () => {
    const { scripts } = scriptsReplying(() => reply);
    await assert.rejects(scripts.run("sweep_expired", KEYS, ["1", "2"], CALL), /sweep_expired returned no outcome/);
  });
}

test("a wrong number of KEYS or ARGV is an internal error, and nothing is sent", async () => {
  const { scripts, sent } = scriptsReplying(() => [Buffer.from("ok")]);
  for (const [keys, args] of [
    [KEYS.slice(1), ["1", "2"]],
    [KEYS, ["1"]],
    [KEYS, ["1", "2", "3"]],
  ] as const) {
    await assert.rejects(scripts.run("sweep_expired", keys, args, CALL), /sweep_expired takes 4 KEYS and 2 ARGV, but/);
  }
  const keys = ["record", "fields", "tombstone", ...KEYS];
  await assert.rejects(
    scripts.run("hash_sessions_get_fields", keys, ["id", "tenant"], CALL),
    /takes 7 KEYS and 3 ARGV/,
  );
  assert.equal(sent.length, 0);
  await scripts.run("hash_sessions_get_fields", keys, ["id", "tenant", "-1"], CALL);
  await scripts.run("hash_sessions_get_fields", keys, ["id", "tenant", "-1", "a", "b"], CALL);
  assert.equal(sent.length, 2);
});

const SESSION_ID = "A".repeat(28);
const CONTEXT = { ...CALL, principal: { tenant: "t", name: "n", scopes: new Set<Scope>() } };

test("an outcome becomes its error, unless the caller names it as a result", async () => {
  const { scripts } = scriptsReplying(() => [Buffer.from("rate_limited"), 250]);
  const run = scripts.runOnSession("simple_sessions_get", SESSION_ID, ["-1", ""], CONTEXT);
  await assert.rejects(run, { name: "SessionError", reason: "CREATE_RATE_EXCEEDED", retryAfterMs: 250 });
  const named = await scripts.runOnSession("simple_sessions_get", SESSION_ID, ["-1", ""], CONTEXT, ["rate_limited"]);
  assert.deepEqual(named, { outcome: "rate_limited", values: [250] });
});

for (const outcome of ["surprise", "id_taken", "toString"]) {
  test(`an outcome without an error is an internal error: ${outcome}`, async () => {
    const { scripts } = scriptsReplying(() => [Buffer.from(outcome)]);
    const run = scripts.runOnSession("simple_sessions_get", SESSION_ID, ["-1", ""], CONTEXT);
    await assert.rejects(run, {
      name: "Error",
      message: new RegExp(`simple_sessions_get .* unexpected outcome: ${outcome}`),
    });
  });
}

test("an id that no session can have is not found without a command", async () => {
  const { scripts, sent } = scriptsReplying(() => [Buffer.from("ok")]);
  const args = ["-1", ""];
  await assert.rejects(scripts.runOnSession("simple_sessions_get", "no id", args, CONTEXT), {
    reason: "SESSION_NOT_FOUND",
  });
  const reply = await scripts.runOnSession("simple_sessions_get", "no id", args, CONTEXT, ["not_found"]);
  assert.equal(reply.outcome, "not_found");
  assert.equal(sent.length, 0);
});
