// The script registry: includes, the list of operations, and what is sent to the store.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { StoreReplyError, type StoreArguments, type StoreReply } from "../../src/store/connection/connection.ts";
import { assembleScript, createScripts, SCRIPT_NAMES } from "../../src/store/scripts.ts";

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
    "SCRIPT_NAMES in src/store/scripts.ts is not the list of src/store/lua/*.lua",
  );
});

test("every operation begins with its purpose and can be put together", () => {
  for (const name of SCRIPT_NAMES) {
    const text = assembleScript(name, false, (file) => readLua(file));
    assert.doesNotMatch(text, /^#!/m, name);
    assert.doesNotMatch(text, /@include/, name);
  }
});

function readLua(file: string): string {
  return process
    .getBuiltinModule("fs")
    .readFileSync(new URL(`../../src/store/lua/${file}.lua`, import.meta.url), "utf8");
}

test("an include takes the place of its line, once, and may include others", () => {
  const read = reader({
    top: "#!lua\n-- @include includes/a\n-- @include includes/b\nreturn 1",
    "includes/a": "-- @include includes/b\nlocal a",
    "includes/b": "local b",
  });
  assert.equal(assembleScript("top", true, read), "#!lua\nlocal b\nlocal a\n\nreturn 1");
});

test("without the shebang the first line is gone, flags and all", () => {
  const read = reader({ top: "#!lua flags=allow-oom\nreturn 1" });
  assert.equal(assembleScript("top", false, read), "return 1");
  assert.equal(assembleScript("top", true, read), "#!lua flags=allow-oom\nreturn 1");
});

test("a circle of includes is an error that names it", () => {
  const read = reader({
    top: "-- @include includes/a",
    "includes/a": "-- @include includes/b",
    "includes/b": "-- @include includes/a",
  });
  assert.throws(() => assembleScript("top", true, read), /top -> includes\/a -> includes\/b -> includes\/a/);
});

test("a missing include is an error that names both files", () => {
  assert.throws(
    () => assembleScript("top", true, reader({ top: "-- @include includes/gone" })),
    /includes\/gone\.lua does not exist, but top\.lua includes it/,
  );
});

function scriptsAnswering(answer: (args: StoreArguments) => StoreReply) {
  const sent: StoreArguments[] = [];
  const keys: string[] = [];
  const connection = {
    async send(key: string, args: StoreArguments): Promise<StoreReply> {
      keys.push(key);
      sent.push(args);
      return answer(args);
    },
  };
  return { scripts: createScripts({ connection, shebang: true }), sent, keys };
}

test("a script is sent by its hash, to the node of its first key, and in full only when the store lacks it", async () => {
  const { scripts, sent, keys } = scriptsAnswering((args) => {
    if (args[0] === "EVALSHA") throw new StoreReplyError("NOSCRIPT No matching script. Please use EVAL.");
    return [Buffer.from("ok"), Buffer.from("x")];
  });
  const reply = await scripts.run("simple_sessions_get", ["k1", "k2"], ["a", Buffer.from([255])], CALL);
  assert.deepEqual(reply, { tag: "ok", values: [Buffer.from("x")] });
  assert.deepEqual(keys, ["k1", "k1"]);
  assert.deepEqual(
    sent.map(([command]) => command),
    ["EVALSHA", "EVAL"],
  );
  assert.equal(sent[0]![1], createHash("sha1").update(sent[1]![1]!).digest("hex"));
  assert.deepEqual(sent[1]!.slice(2), ["2", "k1", "k2", "a", Buffer.from([255])]);
});

test("any other error is passed on, and nothing is sent again", async () => {
  const { scripts, sent } = scriptsAnswering(() => {
    throw new StoreReplyError("WRONGTYPE Operation against a key");
  });
  await assert.rejects(scripts.run("simple_sessions_get", ["k"], [], CALL), { code: "WRONGTYPE" });
  assert.equal(sent.length, 1);
});

for (const reply of [null, 1, "OK", Buffer.from("ok"), [], [1, 2], [[Buffer.from("ok")]]] satisfies StoreReply[]) {
  test(`an answer without a tag is an internal error: ${JSON.stringify(reply)}`, async () => {
    const { scripts } = scriptsAnswering(() => reply);
    await assert.rejects(
      scripts.run("simple_sessions_get", ["k"], [], CALL),
      /simple_sessions_get answered without a tag/,
    );
  });
}
