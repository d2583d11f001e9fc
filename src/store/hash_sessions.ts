// Fields of hash sessions in the store.

import type { CallContext } from "../domain/call.ts";
import { SessionError } from "../domain/errors.ts";
import { ownerPrefixOf } from "../domain/owner.ts";
import type { StoreDependencies } from "./dependencies.ts";
import { sessionScriptKeys } from "./keys.ts";
import { actorArg, fieldsFromReply, sessionNotFound, storedSessionFromReply, unexpectedTag } from "./script_replies.ts";
import type { ScriptName } from "./scripts.ts";
import type { StoredSession } from "./simple_sessions.ts";

/** The most fields a session can have. */
const FIELDS_MAX = 128;

export type HashSessionStore = ReturnType<typeof createHashSessionStore>;

export function createHashSessionStore({ scripts, settings }: StoreDependencies) {
  const auditRetention = String(settings.auditRetentionMs);
  const touchInterval = String(settings.touchIntervalMs ?? -1);

  /** Runs a script on a session's fields; every outcome but success is thrown. */
  async function run(script: ScriptName, sessionId: string, args: readonly string[], call: CallContext) {
    const keys = sessionScriptKeys(sessionId);
    if (keys === undefined) throw sessionNotFound();
    const tenantArgs = [sessionId, ownerPrefixOf(call.principal.tenant), ...args];
    const { tag, values } = await scripts.run(script, keys, tenantArgs, call);
    if (tag !== "ok") throw outcomeError(tag);
    return values;
  }

  /** The fields among `names` that exist, all for no names; slides the idle timeout. */
  async function get(sessionId: string, names: readonly string[], call: CallContext): Promise<Map<string, string>> {
    const [fields] = await run("hash_sessions_get_fields", sessionId, [touchInterval, ...names], call);
    return fieldsFromReply(fields);
  }

  /** Writes `fields`, then removes `remove`, in one step. */
  async function set(
    sessionId: string,
    fields: Iterable<readonly [name: string, value: string]>,
    remove: readonly string[],
    expectedVersion: bigint,
    call: CallContext,
  ): Promise<StoredSession> {
    const writes = [...fields];
    const values = await run(
      "hash_sessions_set_fields",
      sessionId,
      [
        String(expectedVersion),
        String(FIELDS_MAX),
        auditRetention,
        actorArg(call),
        String(writes.length),
        ...writes.flat(),
        ...remove,
      ],
      call,
    );
    return storedSessionFromReply(values);
  }

  /** Adds `delta` to an int64 field; its new value. */
  async function increment(sessionId: string, field: string, delta: bigint, call: CallContext): Promise<bigint> {
    const args = [field, String(delta), String(FIELDS_MAX), auditRetention, actorArg(call)];
    const [value] = await run("hash_sessions_increment_field", sessionId, args, call);
    return BigInt(String(value));
  }

  return { get, set, increment };
}

function outcomeError(tag: string): Error {
  switch (tag) {
    case "not_found":
      return sessionNotFound();
    case "not_a_hash_session":
      return new SessionError("NOT_A_HASH_SESSION", "the session has no fields: it is not a hash session");
    case "version_mismatch":
      return new SessionError("VERSION_MISMATCH", "the session has another version than expected_version");
    case "field_limit":
      return new SessionError("FIELD_LIMIT_REACHED", `a session has at most ${FIELDS_MAX} fields`);
    case "not_an_integer":
      return new SessionError("NOT_AN_INTEGER", "the field's value is not an int64");
    case "overflow":
      return new SessionError("INTEGER_OVERFLOW", "the sum is not an int64");
    default:
      return unexpectedTag(tag);
  }
}
