// Simple sessions: CreateSession, GetSession, ValidateSession, UpdateSessionData, DeleteSession, DeleteUserSessions,
// ListUserSessions.

import type { UpdateSessionDataRequest } from "../../gen/session/v1/simple_sessions_pb.ts";
import type { CallContext } from "../domain/call.ts";
import { SessionError } from "../domain/errors.ts";
import { ownerOf, partitionOfOwner } from "../domain/owner.ts";
import { partitionOfSessionId } from "../domain/session_id.ts";
import { mergePatch } from "../lib/merge_patch.ts";
import { sessionNotFound } from "../store/script_outcomes.ts";
import type { SessionStore } from "../store/simple_sessions.ts";
import type { ServiceDependencies } from "./dependencies.ts";
import { awaitReplicas } from "./durability.ts";
import type { EncodedHandlers, SessionServiceImpl } from "./handlers.ts";
import { createNewSession } from "./new_session.ts";
import { decodeData, encodeData, sessionMessage } from "./session_message.ts";
import { listSessionPage } from "./session_page.ts";
import { decodeValidateSessionRequest, fromValidateSessionRequest } from "./validation/request_decoding.ts";
import { encodeValidationResponse, toValidationResponse } from "./validation/response_encoding.ts";

export function createSimpleSessionService(deps: ServiceDependencies) {
  const { sessions, validator, checkIpBinding, references } = deps;
  const methods = {
    async createSession(request, call) {
      return { session: sessionMessage(await createNewSession(deps, request, "simple", call)) };
    },

    async getSession(request, call) {
      const { sessionId, ipAddress, touch = true } = request;
      const stored = await sessions.get({ sessionId }, touch, call);
      const ip = await checkIpBinding(stored.record, { sessionId }, ipAddress, call);
      if (ip === "ended") throw sessionNotFound();
      return { session: sessionMessage(stored), ipMismatch: ip === "mismatch" };
    },

    async validateSession(request, call) {
      return toValidationResponse(await validator.validate(fromValidateSessionRequest(request), call));
    },

    async updateSessionData(request, call) {
      const { merge, expectedVersion, touch = true } = request;
      const updated = await (merge
        ? mergeData(sessions, request, call)
        : sessions.updateData(request, encodeData(request.data), expectedVersion, touch, call));
      if (updated === undefined) {
        throw new SessionError("VERSION_MISMATCH", "the session has another version than expected_version");
      }
      return { session: sessionMessage(updated) };
    },

    async deleteSession(request, call) {
      const { userId, actor, note } = request;
      const end = { reason: "deleted", revocationReason: "", userId, actor, note } as const;
      const sessionId = references.idOf(request.sessionId, call);
      const deleted = await sessions.remove(sessionId, end, call);
      const replicaCount = await awaitReplicas(deps, partitionOfSessionId(sessionId), request.durability, call);
      return { deleted, replicaCount };
    },

    async deleteUserSessions(request, call) {
      const { userId, exceptSessionId } = request;
      const deletedCount = await sessions.removeAllOfUser(userId, exceptSessionId, request, call);
      const partition = partitionOfOwner(ownerOf(call.principal.tenant, userId));
      return { deletedCount, replicaCount: await awaitReplicas(deps, partition, request.durability, call) };
    },

    async listUserSessions(request, call) {
      return listSessionPage(sessions, "all", request, call);
    },
  } satisfies SessionServiceImpl;

  const encodedHandlers = {
    validateSession(bytes, call) {
      const request = decodeValidateSessionRequest(bytes);
      return request && validator.validate(request, call).then(encodeValidationResponse);
    },
  } satisfies EncodedHandlers;

  return { methods, encodedHandlers };
}

/**
 * Merges by compare-and-swap on the version that was read. If another change came in between, the patch is applied to the result
 * of that change. One of the competing calls succeeds in each round, so the loop ends; the call's deadline bounds it. Resolves
 * to undefined if the session has another version than the expected one.
 */
async function mergeData(sessions: SessionStore, request: UpdateSessionDataRequest, call: CallContext) {
  const { userId } = request;
  for (;;) {
    const [record] = await sessions.readRecords([request.sessionId], call);
    if (record === undefined || (userId !== "" && record.userId !== userId)) throw sessionNotFound();
    if (request.expectedVersion !== 0n && request.expectedVersion !== record.version) return undefined;
    const data = encodeData(mergePatch(decodeData(record) ?? {}, request.data ?? {}));
    const updated = await sessions.updateData(
      { sessionId: record.sessionId, userId },
      data,
      record.version,
      request.touch ?? true,
      call,
    );
    if (updated !== undefined) return updated;
  }
}
