// Each script's header names its KEYS and ARGV: they equal the script's locals, the key builder's keys, and the includes'
// needs. The number that a caller passes is checked at run time (scripts.test.ts).

import assert from "node:assert/strict";
import { test } from "node:test";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { ownerOf, partitionOfOwner } from "../../src/domain/owner.ts";
import { newSessionId } from "../../src/domain/session_id.ts";
import {
  auditKeys,
  createScriptKeys,
  deviceHintKey,
  partitionKeys,
  regenerateScriptKeys,
  rotateScriptKeys,
  sessionScriptKeys,
  SWEEP_LEASE_KEY,
  tenantKeys,
  userScriptKeys,
} from "../../src/store/keys.ts";
import { assembleScript, parseHeader, readLua, SCRIPT_NAMES, type ScriptName } from "../../src/store/script_source.ts";

const OWNER = ownerOf("tenant", "user");
const SESSION_ID = newSessionId(partitionOfOwner(OWNER));
const NEW_SESSION_ID = newSessionId(partitionOfOwner(OWNER));

const ONE_SESSION = sessionScriptKeys(SESSION_ID)!;
const ONE_USER = userScriptKeys(OWNER);

/** What the key builders return for each script. */
const KEYS_OF_BUILDER: Readonly<Record<ScriptName, readonly string[]>> = {
  admin_sessions_end: partitionKeys(0),
  admin_users_count: partitionKeys(0),
  admin_sessions_page: [tenantKeys(0, "tenant").index],
  audit_explain_session: ONE_SESSION,
  audit_list_events: auditKeys(OWNER),
  create_session: createScriptKeys(SESSION_ID, OWNER, "request"),
  device_sessions_get: ONE_USER,
  device_sessions_remember_login: [deviceHintKey("tenant", "device")],
  device_sessions_revoke: ONE_USER,
  end_session: ONE_SESSION,
  hash_sessions_get_fields: ONE_SESSION,
  hash_sessions_increment_field: ONE_SESSION,
  hash_sessions_set_fields: ONE_SESSION,
  ip_binding_end: ONE_SESSION,
  ip_binding_record_mismatch: ONE_SESSION,
  recovery_reapply_end: ONE_SESSION,
  regeneration_begin_move: ONE_SESSION,
  regeneration_end_move: ONE_SESSION,
  regeneration_regenerate: regenerateScriptKeys(SESSION_ID, NEW_SESSION_ID),
  secure_sessions_check_token: ONE_SESSION,
  secure_sessions_revoke_token: ONE_SESSION,
  secure_sessions_rotate_token: rotateScriptKeys(SESSION_ID),
  simple_sessions_delete_user: ONE_USER,
  simple_sessions_get: ONE_SESSION,
  simple_sessions_list: ONE_USER,
  session_updates_authenticate: rotateScriptKeys(SESSION_ID),
  session_updates_update: ONE_SESSION,
  simple_sessions_update_data: ONE_SESSION,
  sweep_expired: partitionKeys(0),
  sweep_renew_lease: [SWEEP_LEASE_KEY],
  watch_begin_change_log: partitionKeys(0),
};

/** The name of a key in the headers, by what follows its tag. */
const NAME_OF_KEY: Readonly<Record<string, string>> = {
  [`s:${SESSION_ID}`]: "RECORD",
  [`f:${SESSION_ID}`]: "FIELDS",
  [`t:${SESSION_ID}`]: "TOMBSTONE",
  [`g:${SESSION_ID}`]: "ROTATION",
  [`s:${NEW_SESSION_ID}`]: "NEW_RECORD",
  [`f:${NEW_SESSION_ID}`]: "NEW_FIELDS",
  [`t:${NEW_SESSION_ID}`]: "NEW_TOMBSTONE",
  [`u:${OWNER}`]: "USER_INDEX",
  [`a:${OWNER}`]: "AUDIT_TRAIL",
  [`ac:${OWNER}`]: "AUDIT_CHANGES",
  [`am:${OWNER}`]: "AUDIT_MISMATCHES",
  [`d:${OWNER}`]: "DEVICES",
  [`r:${OWNER}`]: "LAST_REVOKE_ALL",
  [`q:${OWNER}`]: "CREATE_RATE",
  [`x:${OWNER}:request`]: "REQUEST",
  "p:tenant:device": "DEVICE_HINT",
  "n:tenant": "TENANT_INDEX",
  sweep: "LEASE",
  live: "LIVE",
  log: "LOG",
  tail: "TAIL",
  meta: "META",
};

/** The script without comments; the includes are not part of it. */
function codeOf(name: ScriptName): string {
  return readLua(name)!.replaceAll(/^(#!|--).*$/gm, "");
}

/** The locals that a script assigns from KEYS and from ARGV, in order, and whether their indexes run from 1 up. */
function localsOf(code: string): { keys: string[]; args: string[]; indexes: number[] } {
  const keys = /^local ([^=]*)= unpack\(KEYS\)$/m.exec(code)?.[1] ?? "";
  const args: string[] = [];
  const indexes: number[] = [];
  for (const [, names = "", values = ""] of code.matchAll(/^local ([^=\n]*) = (.*ARGV.*)$/gm)) {
    const sources = [...values.matchAll(/(\{ unpack\(ARGV, |ARGV\[)(\d+)(?:\]|\) \})/g)];
    const locals = names.split(",").map((name) => name.trim());
    assert.equal(locals.length, sources.length, names);
    for (const [i, [, form, index]] of sources.entries()) {
      args.push(locals[i]! + (form === "ARGV[" ? "" : "…"));
      indexes.push(Number(index));
    }
  }
  return {
    keys: keys
      .split(",")
      .map((name) => name.trim())
      .filter((name) => name !== ""),
    args,
    indexes,
  };
}

test("the header's names are the script's locals, in order, and nothing else uses KEYS and ARGV", () => {
  for (const name of SCRIPT_NAMES) {
    const header = parseHeader(readLua(name)!);
    const { keys, args, indexes } = localsOf(codeOf(name));
    assert.deepEqual(keys, header.keys, name);
    assert.deepEqual(args, header.args, name);
    const expected = args.map((_, i) => i + 1);
    assert.deepEqual(indexes, expected, name);
    assert.doesNotMatch(header.args.slice(0, -1).join(), /…/, `${name}: only the last of ARGV can be a rest`);
    for (const key of header.keys) assert.match(key, /^[A-Z_]+$/, name);
    for (const arg of header.args) assert.match(arg, /^[a-z_]+…?$/, name);
    const otherLines = codeOf(name)
      .replace(/^local [^=]*= unpack\(KEYS\)$/m, "")
      .replaceAll(/^local [^=\n]* = .*ARGV.*$/gm, "");
    assert.equal(/KEYS|ARGV/.exec(otherLines), null, `${name} uses KEYS or ARGV without a name`);
  }
});

test("the header's KEYS are those of the script's key builder", () => {
  for (const name of SCRIPT_NAMES) {
    const keys = parseHeader(readLua(name)!).keys.map((key) => key.replace(/^OLD_/, ""));
    const built = KEYS_OF_BUILDER[name].map((key) => NAME_OF_KEY[/^sa:\{\w+\}:(.*)$/.exec(key)![1]!]);
    assert.deepEqual(keys, built, name);
  }
});

test("the header names the RPCs that use the script, or the sweep", () => {
  const rpcs = new Set(SessionService.methods.map((method) => method.name));
  for (const name of SCRIPT_NAMES) {
    const line = /^-- Used by (.*)$/m.exec(readLua(name)!)?.[1] ?? "";
    const users = line.match(/\b[A-Z][A-Za-z]{2,}\b/g) ?? [];
    const isUsed = users.length > 0 || line === "the sweep";
    assert.ok(isUsed, `${name} has no line "-- Used by …" that names an RPC or the sweep`);
    for (const rpc of users) assert.ok(rpcs.has(rpc), `${name}: ${rpc} is not an RPC`);
  }
});

test("each include is used, by the script or by another of its includes", () => {
  for (const name of SCRIPT_NAMES) {
    const lines = assembleScript(name);
    for (const file of new Set(lines.map((line) => line.file))) {
      if (file === name) continue;
      const defined = [...readLua(file)!.matchAll(/^local (?:function )?([A-Za-z_, ]+)/gm)].flatMap(([, names]) =>
        names!.split(",").map((local) => local.trim()),
      );
      const others = lines.filter((line) => line.file !== file).map((line) => line.text.replace(/^--.*/, ""));
      const isUsed = new RegExp(`\\b(${defined.join("|")})\\b`).test(others.join("\n"));
      assert.ok(isUsed, `${name} includes ${file} and does not use it`);
    }
  }
});
