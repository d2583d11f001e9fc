// The audit trail and tombstones in the store.

import type { CallContext } from "../domain/call.ts";
import { ownerOf, userIdOfOwner } from "../domain/owner.ts";
import { parseDoneBy, parseOpener, type DoneBy, type Opener, type StoreDependencies } from "./dependencies.ts";
import { auditKeys } from "./keys.ts";

/**
 * One entry of an audit trail; `id` is `<ms>-<n>`. `sessionId`, `deviceId`, `note` and `detail` may be empty; what `detail` is
 * depends on the event (src/store/lua/includes/audit.lua).
 */
export type AuditEntry = DoneBy & {
  readonly id: string;
  readonly event: string;
  readonly opener: Opener;
  readonly sessionId: string;
  readonly deviceId: string;
  readonly detail: string;
  readonly note: string;
};

/** The state of a session id. `unknown`: there was no such session, or its tombstone is gone. */
export type Explanation =
  | { readonly state: "alive"; readonly userId: string }
  | (DoneBy & {
      readonly state: "ended";
      readonly userId: string;
      readonly reason: string;
      /** What the caller gave for a `revoked` session, in lower case; otherwise empty. */
      readonly revocationReason: string;
      readonly note: string;
      readonly atMs: number;
    })
  | { readonly state: "unknown" };

export type AuditStore = ReturnType<typeof createAuditStore>;

export function createAuditStore({ scripts }: StoreDependencies) {
  /**
   * Reads at most `count` entries of a user's trail, newest first: only those before `beforeId` (empty: all), and none
   * older than `oldestMs`.
   */
  async function auditEntries(userId: string, beforeId: string, oldestMs: number, count: number, call: CallContext) {
    const keys = auditKeys(ownerOf(call.principal.tenant, userId));
    const args = [beforeId, String(oldestMs), String(count)];
    const { values } = await scripts.run("audit_list_events", keys, args, call);
    return (values[0] as Buffer[]).map((entry) => parseAuditEntry(entry.toString()));
  }

  /** Returns whether a session is alive and, if it ended, the reason. */
  async function explain(sessionId: string, call: CallContext): Promise<Explanation> {
    const results = ["alive", "ended", "unknown", "not_found"] as const;
    const { outcome, values } = await scripts.runOnSession("audit_explain_session", sessionId, [], call, results);
    const [owner = "", reason = "", by = "", note = "", at = "", revocationReason = ""] = values.map(String);
    if (outcome === "alive") return { state: "alive", userId: userIdOfOwner(owner) };
    if (outcome !== "ended") return { state: "unknown" };
    const end = { reason, revocationReason, ...parseDoneBy(by), note, atMs: Number(at) };
    return { state: "ended", userId: userIdOfOwner(owner), ...end };
  }

  return { auditEntries, explain };
}

/** Parses an entry as src/store/lua/includes/audit.lua writes it. */
function parseAuditEntry(entry: string): AuditEntry {
  const [id = "", event = "", opener = "", sessionId = "", device = "", by = "", detail = "", ...note] =
    entry.split(" ");
  const session = { opener: parseOpener(opener), sessionId, deviceId: decodeURIComponent(device) };
  return { id, event, ...session, ...parseDoneBy(by), detail, note: note.join(" ") };
}
