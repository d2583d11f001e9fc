// The list of the commands that the service needs equals its sources, and the ACL rules of the docs are made of it.

import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { aclRules, OPTIONAL_COMMANDS, scriptCommands, SENT_COMMANDS } from "../../src/store/compatibility/commands.ts";
import { parseUsers, readLua, SCRIPT_NAMES } from "../../src/store/script_source.ts";

/** Sent to a sentinel, or to the store that the service runs itself. */
const ELSEWHERE = ["SENTINEL", "SHUTDOWN"];

/** Returns the commands that TypeScript sends: the first literal of an array, or of the arguments of a probe. */
function sentBySources(): Set<string> {
  const commands = new Set<string>(["SELECT"]);
  for (const file of globSync("src/store/**/*.ts")) {
    // The lists of commands themselves.
    if (file.endsWith("compatibility/commands.ts")) continue;
    const text = readFileSync(file, "utf8");
    const calls = text.matchAll(/(?:(?<!\w)\[|\b(?:send|trySend)\()\s*"([A-Z]+)"(?:, "(SLOTS|GET)")?/g);
    for (const [, command, subcommand] of calls) commands.add(subcommand ? `${command} ${subcommand}` : command!);
    if (/\.subscribe\(/.test(text)) commands.add("SUBSCRIBE");
  }
  return commands;
}

test("every command that TypeScript sends is in the list, and no other", () => {
  const sent = sentBySources();
  const known = new Set<string>([...Object.keys(SENT_COMMANDS), ...OPTIONAL_COMMANDS, ...ELSEWHERE]);
  const inScripts = scriptCommands();
  assert.deepEqual(
    [...sent].filter((command) => !known.has(command) && !inScripts.has(command)),
    [],
  );
  assert.deepEqual(
    [...known].filter((command) => !sent.has(command)),
    [],
  );
});

test("every call of a command in a script names it by a literal", () => {
  for (const file of globSync("src/store/lua/**/*.lua")) {
    const text = readFileSync(file, "utf8").replaceAll(/--.*/g, "");
    const calls = text.match(/\bredis\.p?call\b/g) ?? [];
    const literal = text.match(/\bredis\.p?call\(\s*'[A-Za-z]+'/g) ?? [];
    assert.equal(literal.length, calls.length, `${file} calls a command that is not named there`);
  }
});

test("every script names the methods that use it", () => {
  const methods = new Set(SessionService.methods.map(({ name }) => name));
  for (const name of SCRIPT_NAMES) {
    const users = parseUsers(readLua(name)!);
    assert.ok(users.length > 0, name);
    for (const user of users) assert.ok(methods.has(user), `${name}: ${user}`);
  }
});

test("the docs have the rules", () => {
  for (const file of ["docs/stores.md", "docs/operations.md"]) {
    // Long lines are broken by a backslash, and quoted where a shell needs it.
    const text = readFileSync(file, "utf8").replaceAll(/ \\\n\s*|'/g, (found) => (found === "'" ? "" : " "));
    const line = `redis-cli ACL SETUSER session-authority reset on >PASSWORD ${aclRules()}\n`;
    assert.ok(text.includes(line), `${file} lacks ${line}`);
  }
});
