// Device sessions in the store.

import type { CallContext } from "../domain/call.ts";
import { ownerOf, userIdOfOwner } from "../domain/owner.ts";
import { runAccess } from "./access.ts";
import { auditArgs, type StoreDependencies } from "./dependencies.ts";
import { deviceHintKey, userScriptKeys } from "./keys.ts";
import type { SessionRecord } from "./session_record.ts";
import type { Justification } from "./simple_sessions.ts";
import { storedSessionFromReply, type StoredSession } from "./stored_session.ts";

export type DeviceSessionStore = ReturnType<typeof createDeviceSessionStore>;

export function createDeviceSessionStore({ connection, scripts, settings }: StoreDependencies) {
  /** Reads the live session of a user on a device; `touch` slides its idle timeout. @throws SessionError SESSION_NOT_FOUND */
  async function get(userId: string, deviceId: string, touch: boolean, call: CallContext): Promise<StoredSession> {
    const keys = userScriptKeys(ownerOf(call.principal.tenant, userId));
    const { values } = await runAccess(settings, touch, (touchIntervalMs, flags) =>
      scripts.run("device_sessions_get", keys, [encodeURIComponent(deviceId), touchIntervalMs], call, [], flags),
    );
    return storedSessionFromReply(values);
  }

  /** Ends the session of a user on a device; returns false if there was none. */
  async function revoke(
    userId: string,
    deviceId: string,
    { actor, note }: Justification,
    call: CallContext,
  ): Promise<boolean> {
    const keys = userScriptKeys(ownerOf(call.principal.tenant, userId));
    const args = [encodeURIComponent(deviceId), ...auditArgs(settings, call, actor), note];
    const { outcome } = await scripts.run("device_sessions_revoke", keys, args, call, ["not_found"]);
    return outcome === "ok";
  }

  /**
   * Remembers the user who logged in on the device of a session, as a hint: its reader must check it against the user's
   * devices. Does nothing for a session without a device, and for one of no user. `loginMs` is by the store's clock.
   */
  async function remember(record: SessionRecord, loginMs: number, call: CallContext): Promise<void> {
    if (record.deviceId === "" || record.userId === "") return;
    const key = deviceHintKey(call.principal.tenant, record.deviceId);
    const args = [record.owner, String(loginMs), String(record.absoluteExpiresMs)];
    await scripts.run("device_sessions_remember_login", [key], args, call);
  }

  /** Returns the user who logged in last on a device, if any; the session there may have ended. */
  async function lastUserId(deviceId: string, call: CallContext): Promise<string | undefined> {
    const key = deviceHintKey(call.principal.tenant, deviceId);
    const reply = await connection.send(key, ["GET", key], call);
    return reply === null ? undefined : userIdOfOwner(String(reply).split(" ")[1]!);
  }

  return { get, revoke, remember, lastUserId };
}
