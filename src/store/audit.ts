// The audit trail and tombstones in the store.

import type { CallContext } from "../domain/call.ts";
import { ownerOf, userIdOfOwner } from "../domain/owner.ts";
import type { StoreDependencies } from "./dependencies.ts";
import { auditKey } from "./keys.ts";

/** One entry of an audit trail; `id` is `<ms>-<n>`. `sessionId`, `deviceId` and `note` may be empty. */
export type AuditEntry = {
  readonly id: string;
  readonly event: string;
  readonly sessionId: string;
  readonly deviceId: string;
  readonly actor: string;
  readonly note: string;
};

/** The state of a session id. `unknown`: there was no such session, or its tombstone is gone. */
export type Explanation =
  | { readonly state: "alive"; readonly userId: string }
  | {
      readonly state: "ended";
      readonly userId: string;
      readonly reason: string;
      readonly actor: string;
      readonly note: string;
      readonly atMs: number;
    }
  | { readonly state: "unknown" };

export type AuditStore = ReturnType<typeof createAuditStore>;

export function createAuditStore({ scripts }: StoreDependencies) {
  /**
   * Reads at most `count` entries of a user's trail, newest first: only those before `beforeId` (empty: all), and none
   * older than `oldestMs`.
   */
  async function auditEntries(userId: string, beforeId: string, oldestMs: number, count: number, call: CallContext) {
    const key = auditKey(ownerOf(call.principal.tenant, userId));
    const args = [beforeId, String(oldestMs), String(count)];
    const { values } = await scripts.run("audit_list_events", [key], args, call);
    return (values[0] as Buffer[]).map((entry) => parseAuditEntry(entry.toString()));
  }

  /** Returns whether a session is alive and, if it ended, the reason. */
  async function explain(sessionId: string, call: CallContext): Promise<Explanation> {
    const results = ["alive", "ended", "unknown", "not_found"] as const;
    const { outcome, values } = await scripts.runOnSession("audit_explain_session", sessionId, [], call, results);
    const [owner = "", reason = "", actor = "", note = "", at = ""] = values.map(String);
    if (outcome === "alive") return { state: "alive", userId: userIdOfOwner(owner) };
    if (outcome !== "ended") return { state: "unknown" };
    const end = { reason, actor: decodeURIComponent(actor), note, atMs: Number(at) };
    return { state: "ended", userId: userIdOfOwner(owner), ...end };
  }

  return { auditEntries, explain };
}

/** Parses an entry as src/store/lua/includes/audit.lua writes it. */
function parseAuditEntry(entry: string): AuditEntry {
  const [id = "", event = "", sessionId = "", device = "", actor = "", ...note] = entry.split(" ");
  const names = { deviceId: decodeURIComponent(device), actor: decodeURIComponent(actor) };
  return { id, event, sessionId, ...names, note: note.join(" ") };
}
