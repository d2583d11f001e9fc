// Hash sessions: CreateHashSession, GetSessionField, GetSessionFields, SetSessionFields, IncrementSessionField.

import type { ServiceDependencies } from "./dependencies.ts";
import type { SessionServiceImpl } from "./handlers.ts";
import { createNewSession } from "./new_session.ts";
import { sessionMessage } from "./session_message.ts";

export function createHashSessionService(deps: ServiceDependencies) {
  const { hashSessions } = deps;
  return {
    async createHashSession(request, call) {
      return { session: sessionMessage(await createNewSession(deps, request, "hash", call)) };
    },

    async getSessionField({ sessionId, field, touch = true }, call) {
      const fields = await hashSessions.get(sessionId, [field], touch, call);
      return { value: fields.get(field) };
    },

    async getSessionFields({ sessionId, names, touch = true }, call) {
      return { fields: Object.fromEntries(await hashSessions.get(sessionId, names, touch, call)) };
    },

    async setSessionFields({ sessionId, userId, fields, remove, expectedVersion, touch = true }, call) {
      const writes = Object.entries(fields);
      const changed = await hashSessions.set({ sessionId, userId }, writes, remove, expectedVersion, touch, call);
      return { session: sessionMessage(changed) };
    },

    async incrementSessionField({ sessionId, userId, field, delta, touch = true }, call) {
      return { value: await hashSessions.increment({ sessionId, userId }, field, delta, touch, call) };
    },
  } satisfies SessionServiceImpl;
}
