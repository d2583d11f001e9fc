// Hash sessions: CreateHashSession, GetSessionField, GetSessionFields, SetSessionFields, IncrementSessionField.

import { SESSION_KIND } from "../store/session_record.ts";
import type { ServiceDependencies } from "./dependencies.ts";
import type { SessionServiceImpl } from "./handlers.ts";
import { newSession } from "./new_session.ts";
import { sessionMessage } from "./session_message.ts";

export function createHashSessionService({ create, hashSessions, defaults }: ServiceDependencies) {
  return {
    async createHashSession(request, call) {
      const session = newSession(request, SESSION_KIND.hash, defaults, { fields: Object.entries(request.fields) });
      return { session: sessionMessage(await create(session, call)) };
    },

    async getSessionField(request, call) {
      const fields = await hashSessions.get(request.sessionId, [request.field], call);
      return { value: fields.get(request.field) };
    },

    async getSessionFields(request, call) {
      return { fields: Object.fromEntries(await hashSessions.get(request.sessionId, request.names, call)) };
    },

    async setSessionFields(request, call) {
      const { sessionId, remove, expectedVersion } = request;
      const changed = await hashSessions.set(sessionId, Object.entries(request.fields), remove, expectedVersion, call);
      return { session: sessionMessage(changed) };
    },

    async incrementSessionField(request, call) {
      return { value: await hashSessions.increment(request.sessionId, request.field, request.delta, call) };
    },
  } satisfies SessionServiceImpl;
}
