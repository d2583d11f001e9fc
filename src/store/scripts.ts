// The script registry: one .lua file per operation, run by its hash and sent in full only when the store lacks it.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import type { CallDeadline } from "../domain/call.ts";
import {
  StoreReplyError,
  type StoreArguments,
  type StoreConnection,
  type StoreReply,
} from "./connection/connection.ts";

/** The operations; a test checks that these are the files of src/store/lua. */
export const SCRIPT_NAMES = [
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
  "ip_binding_record_mismatch",
  "regeneration_regenerate",
  "secure_sessions_check_token",
  "secure_sessions_revoke_token",
  "secure_sessions_rotate_token",
  "simple_sessions_delete_user",
  "simple_sessions_get",
  "simple_sessions_list",
  "simple_sessions_update_data",
  "sweep_expired",
  "watch_begin_change_log",
] as const;
export type ScriptName = (typeof SCRIPT_NAMES)[number];

/** What a script answers: `{'ok', …}`, `{'not_found'}` and the like. */
export type ScriptReply = { readonly tag: string; readonly values: StoreReply[] };

export type Scripts = {
  /**
   * Runs one script, atomically, on the node of keys[0].
   * @throws what StoreConnection.send throws; a reply that is not a tagged tuple is a plain Error.
   */
  run(
    name: ScriptName,
    keys: readonly string[],
    args: readonly (string | Buffer)[],
    call: CallDeadline,
  ): Promise<ScriptReply>;
};

export type ScriptsOptions = {
  readonly connection: Pick<StoreConnection, "send">;
  /** Whether the store takes a `#!lua` line; without it the script's flags have no effect. */
  readonly shebang: boolean;
};

const LUA_FOLDER = new URL("./lua/", import.meta.url);

export function createScripts({ connection, shebang }: ScriptsOptions): Scripts {
  const scripts = new Map<ScriptName, { text: string; sha: string }>();
  for (const name of SCRIPT_NAMES) {
    const text = assembleScript(name, shebang, readLua);
    scripts.set(name, { text, sha: createHash("sha1").update(text).digest("hex") });
  }

  return {
    async run(name, keys, args, call) {
      const { text, sha } = scripts.get(name)!;
      const [first] = keys;
      if (first === undefined) throw new Error(`the script ${name} needs a key: it tells the node`);
      const rest = [String(keys.length), ...keys, ...args];
      let reply: StoreReply;
      try {
        reply = await connection.send(first, ["EVALSHA", sha, ...rest], call);
      } catch (error) {
        if (!(error instanceof StoreReplyError && error.code === "NOSCRIPT")) throw error;
        // A new node, or a SCRIPT FLUSH: nothing was executed, so sending it in full is safe.
        const inFull: StoreArguments = ["EVAL", text, ...rest];
        reply = await connection.send(first, inFull, call);
      }
      const tag = Array.isArray(reply) ? reply[0] : undefined;
      if (!Array.isArray(reply) || !Buffer.isBuffer(tag)) throw new Error(`the script ${name} answered without a tag`);
      return { tag: tag.toString("latin1"), values: reply.slice(1) };
    },
  };
}

const INCLUDE = /^-- @include (\S+)[ \t]*$/;

/** The text of an operation with its includes in their places, each once. `read` gives the text of `<name>.lua`. */
export function assembleScript(name: string, shebang: boolean, read: (name: string) => string | undefined): string {
  const included = new Set<string>();

  function expand(file: string, path: readonly string[]): string {
    const text = read(file);
    if (text === undefined) {
      throw new Error(`${file}.lua does not exist${path.length === 0 ? "" : `, but ${path.at(-1)}.lua includes it`}`);
    }
    const trail = [...path, file];
    return text
      .split("\n")
      .map((line) => {
        const target = INCLUDE.exec(line)?.[1];
        if (target === undefined) return line;
        if (trail.includes(target)) throw new Error(`includes run in a circle: ${[...trail, target].join(" -> ")}`);
        if (included.has(target)) return "";
        included.add(target);
        return expand(target, trail);
      })
      .join("\n");
  }

  const text = expand(name, []);
  return shebang ? text : text.replace(/^#![^\n]*\n/, "");
}

function readLua(name: string): string | undefined {
  try {
    return readFileSync(new URL(`${name}.lua`, LUA_FOLDER), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
