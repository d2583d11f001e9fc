// Security: RegenerateSession, ListAuditEvents, ExplainSession.

import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { AuditEventType, SessionState, type ListAuditEventsRequest } from "../../gen/session/v1/audit_pb.ts";
import { InvalidationReason } from "../../gen/session/v1/session_pb.ts";
import type { CallContext } from "../domain/call.ts";
import { ownerOf } from "../domain/owner.ts";
import { decodePageToken, encodePageToken } from "../domain/page_token.ts";
import { partitionOfSessionId } from "../domain/session_id.ts";
import { mintToken, newSecret, openToken, type TokenKeyRing } from "../domain/token.ts";
import type { AuditEntry, AuditStore } from "../store/audit.ts";
import type { RegenerationStore } from "../store/regeneration.ts";
import { sessionNotFound } from "../store/script_outcomes.ts";
import type { SweepStore } from "../store/sweep.ts";
import type { SessionServiceImpl } from "./handlers.ts";
import { durationMs } from "./new_session.ts";
import { storedSessionMessage } from "./session_message.ts";
import { DEFAULT_PAGE_SIZE } from "./session_page.ts";

const ENTRIES_PER_READ = 200;
const EXPIRED_PER_EXPLAIN = 100;

type SecurityDeps = {
  readonly audit: AuditStore;
  readonly regeneration: RegenerationStore;
  readonly sweep: SweepStore;
  readonly keyRing: () => TokenKeyRing;
};

export function createSecurityService({ audit, regeneration, sweep, keyRing }: SecurityDeps) {
  return {
    async regenerateSession(request, call) {
      const graceMs = durationMs(request.grace) ?? 0;
      if (request.token === "") {
        return { session: storedSessionMessage(await regeneration.regenerate(request.sessionId, graceMs, call)) };
      }
      const opened = openToken(keyRing(), call.principal.tenant, request.token);
      if (opened === undefined) throw sessionNotFound();
      const next = newSecret();
      const secrets = { presented: opened.digest, next: next.digest };
      const stored = await regeneration.regenerate(opened.sessionId, graceMs, call, secrets);
      const token = mintToken(keyRing(), call.principal.tenant, stored.record.sessionId, next);
      return { session: storedSessionMessage(stored), token };
    },

    async listAuditEvents(request, call) {
      const owner = ownerOf(call.principal.tenant, request.userId);
      const filters = [request.types, request.startTime, request.endTime].map((filter) => JSON.stringify(filter, text));
      const scope = `audit ${owner} ${filters.join(" ")}`;
      const after = decodePageToken(scope, request.pageToken);
      const pageSize = request.pageSize || DEFAULT_PAGE_SIZE;
      // One more than the page tells whether there is another.
      const entries = await matchingEntries(request, after, pageSize + 1, call);
      const page = entries.slice(0, pageSize);
      return {
        events: page.map((entry) => auditEvent(entry, request.userId)),
        nextPageToken: entries.length > pageSize ? encodePageToken(scope, page.at(-1)!.id) : "",
      };
    },

    async explainSession(request, call) {
      const partition = partitionOfSessionId(request.sessionId);
      // A session whose time ran out just now has no tombstone before it is swept.
      if (partition !== undefined) await sweep.expire(partition, EXPIRED_PER_EXPLAIN, call);
      const known = await audit.explain(request.sessionId, call);
      if (known.state === "unknown") return { state: SessionState.UNKNOWN };
      if (known.state === "alive") return { state: SessionState.ALIVE, userId: known.userId };
      const { userId, actor, note } = known;
      const reason = InvalidationReason[known.reason.toUpperCase() as keyof typeof InvalidationReason];
      return { state: SessionState.ENDED, reason, actor, at: timestampFromMs(known.atMs), note, userId };
    },
  } satisfies SessionServiceImpl;

  async function matchingEntries(
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
}

function auditEvent(entry: AuditEntry, userId: string) {
  return {
    eventId: entry.id,
    type: eventType(entry),
    at: timestampFromMs(Number(entry.id.split("-")[0])),
    userId,
    sessionId: entry.sessionId,
    deviceId: entry.deviceId,
    actor: entry.actor,
    note: entry.note,
  };
}

// The store's name of an event is the enum's in lower case.
function eventType(entry: AuditEntry): AuditEventType {
  return AuditEventType[entry.event.toUpperCase() as keyof typeof AuditEventType];
}

function text(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : value;
}
