// The fields of sessions in the store.

import type { CallContext } from "../domain/call.ts";
import { runAccess } from "./access.ts";
import { auditArgs, ownerArg, slidesArg, type OwnedSession, type StoreDependencies } from "./dependencies.ts";
import { FIELDS_MAX } from "./script_outcomes.ts";
import { fieldsFromReply, storedSessionFromReply, type StoredSession } from "./stored_session.ts";

export type HashSessionStore = ReturnType<typeof createHashSessionStore>;

/** All of these throw SessionError SESSION_NOT_FOUND. `touch` slides the idle timeout. */
export function createHashSessionStore({ scripts, settings }: StoreDependencies) {
  /** Reads those fields among `names` that exist, or all if `names` is empty. */
  async function get(sessionId: string, names: readonly string[], touch: boolean, call: CallContext) {
    const { values } = await runAccess(settings, touch, (touchIntervalMs, flags) =>
      scripts.runOnSession("hash_sessions_get_fields", sessionId, [touchIntervalMs, ...names], call, [], flags),
    );
    return fieldsFromReply(values[0]);
  }

  /**
   * Writes `fields`, then removes `remove`, in one step.
   * @throws SessionError VERSION_MISMATCH if `expectedVersion` is neither 0 nor the version; FIELD_LIMIT_REACHED.
   */
  async function set(
    { sessionId, userId }: OwnedSession,
    fields: Iterable<readonly [name: string, value: string]>,
    remove: readonly string[],
    expectedVersion: bigint,
    touch: boolean,
    call: CallContext,
  ): Promise<StoredSession> {
    const writes = [...fields];
    const changes = [String(writes.length), ...writes.flat(), ...remove];
    const conditions = [ownerArg(userId, call), String(expectedVersion), String(FIELDS_MAX), slidesArg(touch)];
    const args = [...conditions, ...auditArgs(settings, call), ...changes];
    const { values } = await scripts.runOnSession("hash_sessions_set_fields", sessionId, args, call);
    return storedSessionFromReply(values);
  }

  /**
   * Adds `delta` to an int64 field and returns the new value.
   * @throws SessionError NOT_AN_INTEGER, INTEGER_OVERFLOW, FIELD_LIMIT_REACHED.
   */
  async function increment(
    { sessionId, userId }: OwnedSession,
    field: string,
    delta: bigint,
    touch: boolean,
    call: CallContext,
  ): Promise<bigint> {
    const addition = [field, String(delta), String(FIELDS_MAX), slidesArg(touch)];
    const args = [ownerArg(userId, call), ...addition, ...auditArgs(settings, call)];
    const { values } = await scripts.runOnSession("hash_sessions_increment_field", sessionId, args, call);
    return BigInt(String(values[0]));
  }

  return { get, set, increment };
}
