// Regeneration, the audit trail and tombstones in the store.

import { hash } from "node:crypto";
import type { CallContext } from "../domain/call.ts";
import { ownerOf, ownerPrefixOf, userIdOfOwner } from "../domain/owner.ts";
import { newSessionId, partitionOfSessionId } from "../domain/session_id.ts";
import type { StoreDependencies } from "./dependencies.ts";
import { auditKey, regenerateScriptKeys, sessionScriptKeys } from "./keys.ts";
import { actorArg, sessionNotFound, storedSessionFromReply, unexpectedTag } from "./script_replies.ts";
import type { StoredSession } from "./simple_sessions.ts";

/** One entry of an audit trail; `id` is `<ms>-<n>`. */
export type AuditEntry = {
  readonly id: string;
  readonly event: string;
  readonly sessionId: string;
  readonly deviceId: string;
  readonly actor: string;
  readonly note: string;
};

/** What is known of a session. */
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

/** For a secure session: the digest of the secret that was shown, and of the one to come. */
export type SecretChange = { readonly shown: Buffer; readonly next: Buffer };

const NO_SECRETS: SecretChange = { shown: Buffer.alloc(0), next: Buffer.alloc(0) };

export type SecurityStore = ReturnType<typeof createSecurityStore>;

export function createSecurityStore({ scripts, settings }: StoreDependencies) {
  const auditRetention = String(settings.auditRetentionMs);

  /** Gives a session a new id; the old one leads to it for `graceMs`. */
  async function regenerate(
    sessionId: string,
    graceMs: number,
    call: CallContext,
    secrets = NO_SECRETS,
  ): Promise<StoredSession> {
    const partition = partitionOfSessionId(sessionId);
    if (partition === undefined) throw sessionNotFound();
    for (;;) {
      const newId = newSessionId(partition);
      const { tag, values } = await scripts.run(
        "regeneration_regenerate",
        regenerateScriptKeys(sessionId, newId)!,
        [
          sessionId,
          ownerPrefixOf(call.principal.tenant),
          newId,
          String(graceMs),
          auditRetention,
          actorArg(call),
          secrets.shown,
          secrets.next,
        ],
        call,
      );
      if (tag === "ok") return storedSessionFromReply(values);
      if (tag === "not_found") throw sessionNotFound();
      if (tag !== "id_taken") throw unexpectedTag(tag);
    }
  }

  /** Tells the audit trail that a session was presented from another address: once an hour for each. */
  async function noteIpMismatch(sessionId: string, ipAddress: string, call: CallContext): Promise<void> {
    const digest = hash("sha256", ipAddress, "hex").slice(0, 16);
    const args = [sessionId, ownerPrefixOf(call.principal.tenant), digest, auditRetention, actorArg(call)];
    const { tag } = await scripts.run("ip_binding_record_mismatch", sessionScriptKeys(sessionId)!, args, call);
    if (tag !== "ok" && tag !== "not_found") throw unexpectedTag(tag);
  }

  /** At most `count` entries of a user's trail, newest first: before that id (empty: all), and none before `oldestMs`. */
  async function auditEntries(
    userId: string,
    beforeId: string,
    oldestMs: number,
    count: number,
    call: CallContext,
  ): Promise<AuditEntry[]> {
    const key = auditKey(ownerOf(call.principal.tenant, userId));
    const { tag, values } = await scripts.run(
      "audit_list_events",
      [key],
      [beforeId, String(oldestMs), String(count)],
      call,
    );
    if (tag !== "ok") throw unexpectedTag(tag);
    return (values[0] as Buffer[]).map((entry) => {
      const [id = "", event = "", sessionId = "", device = "", actor = "", ...note] = entry.toString().split(" ");
      const [deviceId, actorName] = [decodeURIComponent(device), decodeURIComponent(actor)];
      return { id, event, sessionId, deviceId, actor: actorName, note: note.join(" ") };
    });
  }

  /** Whether a session is alive and, if it ended, why. */
  async function explain(sessionId: string, call: CallContext): Promise<Explanation> {
    const keys = sessionScriptKeys(sessionId);
    if (keys === undefined) return { state: "unknown" };
    const args = [sessionId, ownerPrefixOf(call.principal.tenant)];
    const { tag, values } = await scripts.run("audit_explain_session", keys, args, call);
    const [owner = "", reason = "", actor = "", note = "", at = ""] = values.map(String);
    switch (tag) {
      case "alive":
        return { state: "alive", userId: userIdOfOwner(owner) };
      case "ended": {
        const end = { reason, actor: decodeURIComponent(actor), note, atMs: Number(at) };
        return { state: "ended", userId: userIdOfOwner(owner), ...end };
      }
      case "unknown":
        return { state: "unknown" };
      default:
        throw unexpectedTag(tag);
    }
  }

  return { regenerate, noteIpMismatch, auditEntries, explain };
}
