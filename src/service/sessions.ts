// Simple sessions: CreateSession, GetSession, ValidateSession, UpdateSessionData, DeleteSession, DeleteUserSessions,
// ListUserSessions.

import { Verdict } from "../../gen/session/v1/session_pb.ts";
import type { UpdateSessionDataRequest } from "../../gen/session/v1/sessions_pb.ts";
import type { CallContext } from "../domain/call.ts";
import { SessionError } from "../domain/errors.ts";
import { mergePatch } from "../domain/merge_patch.ts";
import { ownerOf } from "../domain/owner.ts";
import { decodePageToken, encodePageToken } from "../domain/page_token.ts";
import { SESSION_KIND } from "../store/record.ts";
import { sessionNotFound } from "../store/replies.ts";
import type { SessionStore, StoredSession } from "../store/sessions.ts";
import type { SessionServiceImpl } from "./contract.ts";
import { newSession, type SessionDefaults } from "./create_request.ts";
import { decodeData, encodeData, sessionMessage } from "./session_message.ts";

const DEFAULT_PAGE_SIZE = 50;
const INVALID = { verdict: Verdict.INVALID };

export function createSessionsService(sessions: SessionStore, defaults: SessionDefaults) {
  return {
    async createSession(request, call) {
      const data = encodeData(request.data);
      const session = newSession(request, SESSION_KIND.simple, defaults, { data });
      return { session: messageOf(await sessions.create(session, call)) };
    },

    async getSession(request, call) {
      return { session: messageOf(await sessions.get(request.sessionId, call)) };
    },

    async validateSession(request, call) {
      const record = await sessions.find(request.sessionId, call);
      return record ? { verdict: Verdict.VALID, session: sessionMessage(record) } : INVALID;
    },

    async updateSessionData(request, call) {
      const updated = request.merge ? await merge(request, call) : await replace(request, call);
      return { session: messageOf(updated) };
    },

    async deleteSession(request, call) {
      return { deleted: await sessions.remove(request.sessionId, call) };
    },

    async deleteUserSessions(request, call) {
      return { deletedCount: await sessions.removeAllOfUser(request.userId, request.exceptSessionId, call) };
    },

    async listUserSessions(request, call) {
      const scope = `sessions ${ownerOf(call.caller.tenant, request.userId)}`;
      const after = decodePageToken(scope, request.pageToken);
      const page = await sessions.listOfUser(request.userId, after, request.pageSize || DEFAULT_PAGE_SIZE, call);
      const last = page.sessions.at(-1);
      return {
        sessions: page.sessions.map(messageOf),
        nextPageToken: page.more && last ? encodePageToken(scope, last.record.sessionId) : "",
      };
    },
  } satisfies SessionServiceImpl;

  async function replace(request: UpdateSessionDataRequest, call: CallContext): Promise<StoredSession> {
    const data = encodeData(request.data);
    const updated = await sessions.updateData(request.sessionId, data, request.expectedVersion, call);
    if (updated === undefined) throw versionMismatch();
    return updated;
  }

  // Compare-and-swap on the version that was read: when another change came between, the patch is applied to what that
  // one left. One of any number of rivals succeeds in each round, so this ends; the call's deadline bounds it.
  async function merge(request: UpdateSessionDataRequest, call: CallContext): Promise<StoredSession> {
    for (;;) {
      const record = await sessions.find(request.sessionId, call);
      if (record === undefined) throw sessionNotFound();
      if (request.expectedVersion !== 0n && request.expectedVersion !== record.version) throw versionMismatch();
      const data = encodeData(mergePatch(decodeData(record) ?? {}, request.data ?? {}));
      const updated = await sessions.updateData(request.sessionId, data, record.version, call);
      if (updated !== undefined) return updated;
    }
  }
}

function messageOf(stored: StoredSession) {
  return sessionMessage(stored.record, stored.fields);
}

function versionMismatch(): SessionError {
  return new SessionError("VERSION_MISMATCH", "the session has another version than expected_version");
}
