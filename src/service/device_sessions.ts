// Device sessions: CreateDeviceSession, GetDeviceSession, ListUserDevices, RevokeDevice.

import { ownerOf, partitionOfOwner } from "../domain/owner.ts";
import { sessionNotFound } from "../store/script_outcomes.ts";
import type { ServiceDependencies } from "./dependencies.ts";
import { awaitReplicas } from "./durability.ts";
import type { SessionServiceImpl } from "./handlers.ts";
import { createNewSession } from "./new_session.ts";
import { sessionMessage } from "./session_message.ts";
import { listSessionPage } from "./session_page.ts";

export function createDeviceSessionService(deps: ServiceDependencies) {
  const { sessions, deviceSessions, checkIpBinding } = deps;
  return {
    async createDeviceSession(request, call) {
      return { session: sessionMessage(await createNewSession(deps, request, "device", call)) };
    },

    async getDeviceSession(request, call) {
      const { deviceId } = request;
      const userId = request.userId === "" ? await deviceSessions.lastUserId(deviceId, call) : request.userId;
      if (userId === undefined) throw sessionNotFound();
      const stored = await deviceSessions.get(userId, deviceId, request.touch ?? true, call);
      const { sessionId } = stored.record;
      const ip = await checkIpBinding(stored.record, { sessionId }, request.ipAddress, call);
      if (ip === "ended") throw sessionNotFound();
      return { session: sessionMessage(stored), ipMismatch: ip === "mismatch" };
    },

    async listUserDevices(request, call) {
      return listSessionPage(sessions, "devices", request, call);
    },

    async revokeDevice(request, call) {
      const deleted = await deviceSessions.revoke(request.userId, request.deviceId, request, call);
      const partition = partitionOfOwner(ownerOf(call.principal.tenant, request.userId));
      return { deleted, replicaCount: await awaitReplicas(deps, partition, request.durability, call) };
    },
  } satisfies SessionServiceImpl;
}
