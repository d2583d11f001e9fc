// Device sessions: CreateDeviceSession, GetDeviceSession, ListUserDevices, RevokeDevice.

import { DeviceType } from "../../gen/session/v1/session_pb.ts";
import type { SessionCreator } from "../store/create_session.ts";
import type { DeviceSessionStore } from "../store/device_sessions.ts";
import { SESSION_KIND } from "../store/session_record.ts";
import { sessionNotFound } from "../store/script_outcomes.ts";
import type { SessionStore } from "../store/simple_sessions.ts";
import type { SessionServiceImpl } from "./handlers.ts";
import { newSession, type SessionDefaults } from "./new_session.ts";
import { encodeData, storedSessionMessage } from "./session_message.ts";
import { listSessionPage } from "./session_page.ts";

type DevicesDeps = {
  readonly create: SessionCreator;
  readonly sessions: SessionStore;
  readonly devices: DeviceSessionStore;
  readonly defaults: SessionDefaults;
};

export function createDeviceSessionService({ create, sessions, devices, defaults }: DevicesDeps) {
  return {
    async createDeviceSession(request, call) {
      const data = encodeData(request.data);
      const device = request.device!;
      const kept = { ...device, type: device.type || DeviceType.UNKNOWN };
      const session = newSession(request, SESSION_KIND.device, defaults, { data, device: kept });
      const created = await create(session, call);
      // In another slot, so not in the same step. When it fails the caller hears UNAVAILABLE, and its retry with the
      // same request_id makes good for it.
      // A retry answers the session that was made then, which may be on another device than this request's.
      const message = storedSessionMessage(created);
      await devices.remember(message.device!.deviceId, created.record, call);
      return { session: message };
    },

    async getDeviceSession(request, call) {
      const { deviceId } = request;
      const userId = request.userId === "" ? await devices.lastUserId(deviceId, call) : request.userId;
      if (userId === undefined) throw sessionNotFound();
      return { session: storedSessionMessage(await devices.get(userId, deviceId, call)) };
    },

    async listUserDevices(request, call) {
      return listSessionPage(sessions, "devices", request, call);
    },

    async revokeDevice(request, call) {
      return { deleted: await devices.revoke(request.userId, request.deviceId, call) };
    },
  } satisfies SessionServiceImpl;
}
