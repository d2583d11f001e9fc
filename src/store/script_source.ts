// The source text of the scripts: their headers, and their includes put in place.

import { readFileSync } from "node:fs";

/** The files of src/store/lua, which a test checks. */
export const SCRIPT_NAMES = [
  "admin_sessions_end",
  "admin_sessions_page",
  "admin_users_count",
  "audit_explain_session",
  "audit_list_events",
  "create_session",
  "device_sessions_get",
  "device_sessions_remember_login",
  "device_sessions_revoke",
  "end_session",
  "hash_sessions_get_fields",
  "hash_sessions_increment_field",
  "hash_sessions_set_fields",
  "ip_binding_end",
  "ip_binding_record_mismatch",
  "recovery_reapply_end",
  "regeneration_begin_move",
  "regeneration_end_move",
  "regeneration_regenerate",
  "secure_sessions_check_token",
  "secure_sessions_revoke_token",
  "secure_sessions_rotate_token",
  "session_updates_authenticate",
  "session_updates_update",
  "simple_sessions_delete_user",
  "simple_sessions_get",
  "simple_sessions_list",
  "simple_sessions_update_data",
  "sweep_expired",
  "sweep_renew_lease",
  "watch_begin_change_log",
] as const;
export type ScriptName = (typeof SCRIPT_NAMES)[number];

/** A line of an assembled script, and where it comes from: `file` as in `includes/record`, `line` from 1. */
export type SourceLine = { readonly text: string; readonly file: string; readonly line: number };

const LUA_FOLDER = new URL("./lua/", import.meta.url);
const INCLUDE = /^-- @include (\S+)[ \t]*$/;

/** Reads `<name>.lua`; undefined if there is no such file. */
export function readLua(name: string): string | undefined {
  try {
    return readFileSync(new URL(`${name}.lua`, LUA_FOLDER), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/**
 * Returns the lines of a script with each include in the place of its first `-- @include` line.
 * @throws Error for an include that does not exist, and for includes in a circle.
 */
export function assembleScript(name: string, read: (name: string) => string | undefined = readLua): SourceLine[] {
  const included = new Set<string>();

  function expand(file: string, path: readonly string[]): SourceLine[] {
    const text = read(file);
    if (text === undefined) {
      throw new Error(`${file}.lua does not exist${path.length === 0 ? "" : `, but ${path.at(-1)}.lua includes it`}`);
    }
    const trail = [...path, file];
    return text
      .replace(/\n$/, "")
      .split("\n")
      .flatMap((line, index) => {
        const target = INCLUDE.exec(line)?.[1];
        if (target === undefined) return { text: line, file, line: index + 1 };
        if (trail.includes(target)) throw new Error(`includes run in a circle: ${[...trail, target].join(" -> ")}`);
        if (included.has(target)) return [];
        included.add(target);
        return expand(target, trail);
      });
  }

  return expand(name, []);
}

/** Reads the names of the methods that use a script from its header. */
export function parseUsers(text: string): string[] {
  const entry = /^-- Used by (.*(?:\n-- {2,}.*)*?)\n-- KEYS/m.exec(text)?.[1] ?? "";
  return entry.match(/\b(?:[A-Z][a-z]+){2,}/g) ?? [];
}

/**
 * Reads the names of a script's KEYS and ARGV, in order, from its header; what stands in parentheses is a comment. Only the
 * last of `args` may end in `…`: a rest.
 */
export function parseHeader(text: string) {
  return { keys: namesOf("KEYS"), args: namesOf("ARGV") };

  function namesOf(label: string): string[] {
    const entry = new RegExp(`^-- ${label}  (.*(?:\\n--       .*)*)`, "m").exec(text)?.[1] ?? "";
    return entry
      .replaceAll(/\n--/g, "")
      .replaceAll(/\([^)]*\)/g, "")
      .split(",")
      .map((name) => name.trim())
      .filter((name) => name !== "");
  }
}
