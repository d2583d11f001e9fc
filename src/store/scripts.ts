// Runs the scripts of src/store/lua: each by its hash, and in full only if the store lacks it.

import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { CallContext, CallDeadline } from "../domain/call.ts";
import { ownerPrefixOf } from "../domain/owner.ts";
import {
  StoreReplyError,
  type StoreArguments,
  type StoreConnection,
  type StoreReply,
} from "./connection/connection.ts";
import { sessionScriptKeys } from "./keys.ts";
import { errorOfOutcome, type Outcome } from "./script_outcomes.ts";
import { assembleScript, parseHeader, SCRIPT_NAMES, type ScriptName } from "./script_source.ts";

/** The reply of a script, `{'ok', …}`, `{'not_found'}` and the like: its outcome, and the values that follow. */
export type ScriptReply<Result extends Outcome> = { readonly outcome: "ok" | Result; readonly values: StoreReply[] };

export type Scripts = ReturnType<typeof createScripts>;

const MOVING_RETRY_MS = 5;

export type ScriptsOptions = {
  readonly connection: Pick<StoreConnection, "send">;
  /** Whether the store takes a `#!lua` line; without it the script's flags have no effect. */
  readonly shebang: boolean;
};

/** The flags of a script: those in its file, or `no-writes` for one that may write but does not with these ARGV. */
export type ScriptFlags = "declared" | "no-writes";

export function createScripts({ connection, shebang }: ScriptsOptions) {
  const scripts = new Map(SCRIPT_NAMES.map((name) => [name, loadScript(name, shebang)]));

  /**
   * Runs one script, atomically, on the node of keys[0]. Returns if the outcome is `ok` or one of `results`.
   * @throws the SessionError of any other outcome (script_outcomes.ts); what StoreConnection.send throws; a plain Error
   * for a number of KEYS or ARGV that is not the header's, and for a reply that is not the script's.
   */
  async function run<Result extends Outcome = never>(
    name: ScriptName,
    keys: readonly string[],
    args: StoreArguments,
    call: CallDeadline,
    results: readonly Result[] = [],
    flags: ScriptFlags = "declared",
  ): Promise<ScriptReply<Result>> {
    const { sources, keyCount, argCount, hasRest } = scripts.get(name)!;
    if (keys.length !== keyCount || (hasRest ? args.length < argCount : args.length !== argCount)) {
      const given = `${keys.length} and ${args.length}`;
      throw new Error(`the script ${name} takes ${keyCount} KEYS and ${argCount} ARGV, but was given ${given}`);
    }
    for (;;) {
      const reply = await send(sources[flags], keys, args, call);
      // A login is moving the session to its user, which takes a few round trips; then the script has its own outcome.
      if (outcomeOf(name, reply) !== "moving") return readReply(name, reply, results);
      await sleep(MOVING_RETRY_MS, undefined, { signal: call.signal });
    }
  }

  async function send(
    { sha, text }: ScriptText,
    keys: readonly string[],
    args: StoreArguments,
    call: CallDeadline,
  ): Promise<StoreReply> {
    const node = keys[0]!;
    const rest = [String(keys.length), ...keys, ...args];
    try {
      return await connection.send(node, ["EVALSHA", sha, ...rest], call);
    } catch (error) {
      if (!(error instanceof StoreReplyError && error.code === "NOSCRIPT")) throw error;
      // The node is new, or its scripts were flushed. Nothing was executed, so it is safe to send the script in full.
      return connection.send(node, ["EVAL", text, ...rest], call);
    }
  }

  /**
   * Runs a script about one session, whose ARGV begin with the session_id and the tenant's owner prefix, before `args`. An
   * id that no session can have is `not_found` without a command to the store.
   */
  async function runOnSession<Result extends Outcome = never>(
    name: ScriptName,
    sessionId: string,
    args: StoreArguments,
    call: CallContext,
    results: readonly Result[] = [],
    flags: ScriptFlags = "declared",
  ): Promise<ScriptReply<Result>> {
    const keys = sessionScriptKeys(sessionId);
    if (keys === undefined) return readReply(name, [Buffer.from("not_found")], results);
    return run(name, keys, [sessionId, ownerPrefixOf(call.principal.tenant), ...args], call, results, flags);
  }

  return { run, runOnSession };
}

type ScriptText = { readonly text: string; readonly sha: string };

function loadScript(name: ScriptName, shebang: boolean) {
  const [first, ...others] = assembleScript(name).map((line) => line.text);
  const { keys, args } = parseHeader(others.join("\n"));
  const hasRest = args.at(-1)?.endsWith("…") === true;

  function withFirstLine(line: string | undefined): ScriptText {
    const text = (shebang ? [line, ...others] : others).join("\n");
    return { text, sha: createHash("sha1").update(text).digest("hex") };
  }

  const sources: Readonly<Record<ScriptFlags, ScriptText>> = {
    declared: withFirstLine(first),
    "no-writes": withFirstLine("#!lua flags=no-writes"),
  };
  return { sources, keyCount: keys.length, argCount: args.length - (hasRest ? 1 : 0), hasRest };
}

/** @throws Error if the reply is not that of a script. */
function outcomeOf(name: ScriptName, reply: StoreReply): string {
  const tag = Array.isArray(reply) ? reply[0] : undefined;
  if (!Buffer.isBuffer(tag)) throw new Error(`the script ${name} returned no outcome`);
  return tag.toString("latin1");
}

function readReply<Result extends Outcome>(
  name: ScriptName,
  reply: StoreReply,
  results: readonly Result[],
): ScriptReply<Result> {
  const [, ...values] = reply as StoreReply[];
  const outcome = outcomeOf(name, reply) as "ok" | Result;
  if (outcome !== "ok" && !results.includes(outcome)) throw errorOfOutcome(name, outcome, values);
  return { outcome, values };
}
