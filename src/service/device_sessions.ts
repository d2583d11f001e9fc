// Device sessions: CreateDeviceSession, GetDeviceSession, ListUserDevices, RevokeDevice.

import { DeviceType } from "../../gen/session/v1/session_pb.ts";
import { SESSION_KIND } from "../store/session_record.ts";
import { sessionNotFound } from "../store/script_outcomes.ts";
import type { ServiceDependencies } from "./dependencies.ts";
import type { SessionServiceImpl } from "./handlers.ts";
import { newSession } from "./new_session.ts";
import { encodeData, sessionMessage } from "./session_message.ts";
import { listSessionPage } from "./session_page.ts";

export function createDeviceSessionService({ create, sessions, deviceSessions, defaults }: ServiceDependencies) {
  return {
    async createDeviceSession(request, call) {
      const data = encodeData(request.data);
      const device = { ...request.device!, type: request.device!.type || DeviceType.UNKNOWN };
      const created = await create(newSession(request, SESSION_KIND.device, defaults, { data, device }), call);
      // A retry returns the session of the first call, which may be on another device than this request's.
      const session = sessionMessage(created);
      // The hint is in another slot, so it cannot be part of the create's step. If this fails, the caller gets UNAVAILABLE,
      // and its retry with the same request_id writes the hint.
      await deviceSessions.remember(session.device!.deviceId, created.record, call);
      return { session };
    },

    async getDeviceSession(request, call) {
      const { deviceId } = request;
      const userId = request.userId === "" ? await deviceSessions.lastUserId(deviceId, call) : request.userId;
      if (userId === undefined) throw sessionNotFound();
      return { session: sessionMessage(await deviceSessions.get(userId, deviceId, call)) };
    },

    async listUserDevices(request, call) {
      return listSessionPage(sessions, "devices", request, call);
    },

    async revokeDevice(request, call) {
      return { deleted: await deviceSessions.revoke(request.userId, request.deviceId, call) };
    },
  } satisfies SessionServiceImpl;
}
