// The audit trail: ListAuditEvents, ExplainSession.

import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { AuditEventType, SessionState, type ListAuditEventsRequest } from "../../gen/session/v1/audit_pb.ts";
import type { CallContext } from "../domain/call.ts";
import { ownerOf } from "../domain/owner.ts";
import { decodePageToken, encodePageToken } from "../domain/page_token.ts";
import { partitionOfSessionId } from "../domain/session_id.ts";
import type { AuditEntry } from "../store/audit.ts";
import { invalidationReasonOf, revocationReasonOf } from "../watch/reasons.ts";
import type { ServiceDependencies } from "./dependencies.ts";
import type { SessionServiceImpl } from "./handlers.ts";
import { DEFAULT_PAGE_SIZE } from "./session_page.ts";

const ENTRIES_PER_READ = 200;
const EXPIRED_PER_EXPLAIN = 100;

export function createAuditService({ audit, sweep, references }: ServiceDependencies) {
  const { visibleId } = references;
  return {
    async listAuditEvents(request, call) {
      const owner = ownerOf(call.principal.tenant, request.userId);
      const filters = [request.types, request.startTime, request.endTime].map((filter) => JSON.stringify(filter, text));
      const scope = `audit ${owner} ${filters.join(" ")}`;
      const after = decodePageToken(scope, request.pageToken);
      const pageSize = request.pageSize || DEFAULT_PAGE_SIZE;
      // One entry more than the page has shows whether another page follows.
      const entries = await matchingEntries(audit, request, after, pageSize + 1, call);
      const page = entries.slice(0, pageSize);
      return {
        events: page.map((entry) => auditEvent(entry, request.userId, (id) => visibleId(id, entry.opener, call))),
        nextPageToken: entries.length > pageSize ? encodePageToken(scope, page.at(-1)!.id) : "",
      };
    },

    async explainSession(request, call) {
      const sessionId = references.idOf(request.sessionId, call);
      const partition = partitionOfSessionId(sessionId);
      // A session that has just expired has no tombstone until its partition is swept.
      if (partition !== undefined) await sweep.expire(partition, EXPIRED_PER_EXPLAIN, call);
      const explanation = await audit.explain(sessionId, call);
      if (explanation.state === "unknown") return { state: SessionState.UNKNOWN };
      if (explanation.state === "alive") return { state: SessionState.ALIVE, userId: explanation.userId };
      const { userId, principal, actor, note } = explanation;
      return {
        ...{ state: SessionState.ENDED, userId, principal, actor, note, endTime: timestampFromMs(explanation.atMs) },
        reason: invalidationReasonOf(explanation.reason),
        revocationReason: revocationReasonOf(explanation.revocationReason),
      };
    },
  } satisfies SessionServiceImpl;
}

/** Reads a user's trail, newest first, until `count` entries after the id `after` match the request's filters. */
async function matchingEntries(
  audit: ServiceDependencies["audit"],
  request: ListAuditEventsRequest,
  after: string,
  count: number,
  call: CallContext,
): Promise<AuditEntry[]> {
  const oldestMs = request.startTime ? Math.max(0, Math.ceil(timestampMs(request.startTime))) : 0;
  const endMs = request.endTime && Math.ceil(timestampMs(request.endTime));
  if (endMs !== undefined && endMs <= 0) return [];
  const found: AuditEntry[] = [];
  for (let before = after === "" && endMs !== undefined ? `${endMs}-0` : after; ;) {
    const entries = await audit.auditEntries(request.userId, before, oldestMs, ENTRIES_PER_READ, call);
    found.push(...entries.filter((entry) => request.types.length === 0 || request.types.includes(eventType(entry))));
    if (found.length >= count || entries.length < ENTRIES_PER_READ) return found.slice(0, count);
    before = entries.at(-1)!.id;
  }
}

/** @param visible Returns an id of the entry as the caller may see it. */
function auditEvent(entry: AuditEntry, userId: string, visible: (sessionId: string) => string) {
  const { id, event, sessionId, deviceId, principal, actor, note, detail } = entry;
  return {
    ...{ eventId: id, type: eventType(entry), time: timestampFromMs(Number(id.split("-")[0])) },
    ...{ userId, sessionId: visible(sessionId), deviceId, principal, actor, note },
    // What the detail is depends on the event.
    ...(event === "revoked" && { revocationReason: revocationReasonOf(detail) }),
    ...(event === "regenerated" && { previousSessionId: visible(detail) }),
    ...(event === "user_revoked" && { deletedCount: Number(detail) }),
  };
}

/** The store names an event as the enum does, in lower case. */
function eventType(entry: AuditEntry): AuditEventType {
  return AuditEventType[entry.event.toUpperCase() as keyof typeof AuditEventType];
}

/** A JSON.stringify replacer for the bigints in timestamps. */
function text(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : value;
}
