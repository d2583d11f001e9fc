// Device sessions in the store.

import type { CallContext } from "../domain/call.ts";
import { ownerOf, userIdOfOwner } from "../domain/owner.ts";
import type { StoreDependencies } from "./dependencies.ts";
import { deviceHintKey, userScriptKeys } from "./keys.ts";
import type { SessionRecord } from "./session_record.ts";
import { actorArg, sessionNotFound, storedSessionFromReply, unexpectedTag } from "./script_replies.ts";
import type { StoredSession } from "./simple_sessions.ts";

export type DeviceSessionStore = ReturnType<typeof createDeviceSessionStore>;

export function createDeviceSessionStore({ connection, scripts, settings }: StoreDependencies) {
  const touchInterval = String(settings.touchIntervalMs ?? -1);

  /** The live session of a user on a device; slides its idle timeout. */
  async function get(userId: string, deviceId: string, call: CallContext): Promise<StoredSession> {
    const keys = userScriptKeys(ownerOf(call.principal.tenant, userId));
    const { tag, values } = await scripts.run(
      "device_sessions_get",
      keys,
      [encodeURIComponent(deviceId), touchInterval],
      call,
    );
    switch (tag) {
      case "ok":
        return storedSessionFromReply(values);
      case "not_found":
        throw sessionNotFound();
      default:
        throw unexpectedTag(tag);
    }
  }

  /** Ends the session of a user on a device; false when there was none. */
  async function revoke(userId: string, deviceId: string, call: CallContext): Promise<boolean> {
    const keys = userScriptKeys(ownerOf(call.principal.tenant, userId));
    const args = [encodeURIComponent(deviceId), String(settings.auditRetentionMs), actorArg(call)];
    const { tag } = await scripts.run("device_sessions_revoke", keys, args, call);
    if (tag !== "ok" && tag !== "not_found") throw unexpectedTag(tag);
    return tag === "ok";
  }

  /** Remembers who logged in last on a device. A hint: whoever reads it asks the user's devices. */
  async function remember(deviceId: string, record: SessionRecord, call: CallContext): Promise<void> {
    const key = deviceHintKey(call.principal.tenant, deviceId);
    const args = [record.owner, String(record.createdMs), String(record.absoluteExpiresMs)];
    const { tag } = await scripts.run("device_sessions_remember_login", [key], args, call);
    if (tag !== "ok") throw unexpectedTag(tag);
  }

  /** The user who logged in last on a device; the session there may be dead. */
  async function lastUserId(deviceId: string, call: CallContext): Promise<string | undefined> {
    const key = deviceHintKey(call.principal.tenant, deviceId);
    const reply = await connection.send(key, ["GET", key], call);
    return reply === null ? undefined : userIdOfOwner(String(reply).split(" ")[1]!);
  }

  return { get, revoke, remember, lastUserId };
}
