// Hash sessions: CreateHashSession, GetSessionField, GetSessionFields, SetSessionFields, IncrementSessionField.

import type { SessionCreator } from "../store/create_session.ts";
import type { HashSessionStore } from "../store/hash_sessions.ts";
import { SESSION_KIND } from "../store/session_record.ts";
import type { SessionServiceImpl } from "./handlers.ts";
import { newSession, type SessionDefaults } from "./new_session.ts";
import { storedSessionMessage } from "./session_message.ts";

type HashSessionDeps = {
  readonly create: SessionCreator;
  readonly hashSessions: HashSessionStore;
  readonly defaults: SessionDefaults;
};

export function createHashSessionService({ create, hashSessions, defaults }: HashSessionDeps) {
  return {
    async createHashSession(request, call) {
      const session = newSession(request, SESSION_KIND.hash, defaults, { fields: Object.entries(request.fields) });
      return { session: storedSessionMessage(await create(session, call)) };
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
      return { session: storedSessionMessage(changed) };
    },

    async incrementSessionField(request, call) {
      return { value: await hashSessions.increment(request.sessionId, request.field, request.delta, call) };
    },
  } satisfies SessionServiceImpl;
}
