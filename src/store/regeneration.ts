// Regeneration in the store: a session gets a new id.

import type { CallContext } from "../domain/call.ts";
import { ownerPrefixOf } from "../domain/owner.ts";
import { newSessionId, partitionOfSessionId } from "../domain/session_id.ts";
import { sha256 } from "../lib/hmac.ts";
import { auditArgs, ownerArg, REQUEST_ID_TTL_MS, type StoreDependencies } from "./dependencies.ts";
import { addressArgs, addressCheckedFromReply, type AddressChecked, type AddressComparison } from "./ip_binding.ts";
import { regenerateScriptKeys } from "./keys.ts";
import { sessionNotFound } from "./script_outcomes.ts";
import { storedSessionFromReply, type StoredSession } from "./stored_session.ts";

/** What a RegenerateSession asks for. */
export type Regeneration = {
  readonly sessionId: string;
  /** The user to whom the session must belong; empty: any. */
  readonly userId: string;
  /** The old id leads to the session for this time. */
  readonly graceMs: number;
  /** Empty if the caller gave none. */
  readonly requestId: string;
  /** For a secure session: the SHA-256 digests of the presented secret and of its replacement. */
  readonly secrets?: { readonly presented: Buffer; readonly next: Buffer };
};

/** `owned`: the session belongs to a user. `moved`: this request id has moved it before, and it goes on as `successor`. */
export type MoveBegun =
  | { readonly state: "begun"; readonly stored: StoredSession }
  | { readonly state: "owned" }
  | { readonly state: "moved"; readonly successor: string };

const NONE = Buffer.alloc(0);
/** Longer than a call takes, so that a move which is not ended in time was abandoned. */
const MARK_MS = 10_000;

export type RegenerationStore = ReturnType<typeof createRegenerationStore>;

export function createRegenerationStore({ scripts, settings }: StoreDependencies) {
  /**
   * Gives a session a new id, or returns the session that this request id gave one before. Applies the ip_binding first.
   * @throws SessionError SESSION_NOT_FOUND.
   */
  async function regenerate(
    { sessionId, userId, graceMs, requestId, secrets = { presented: NONE, next: NONE } }: Regeneration,
    address: AddressComparison,
    call: CallContext,
  ): Promise<AddressChecked> {
    const partition = partitionOfSessionId(sessionId);
    if (partition === undefined) throw sessionNotFound();
    for (;;) {
      const newId = newSessionId(partition);
      const args = [
        ...[sessionId, ownerPrefixOf(call.principal.tenant), newId, String(graceMs), ...auditArgs(settings, call)],
        ...[secrets.presented, secrets.next, requestDigest(requestId)],
        ...[String(REQUEST_ID_TTL_MS), ...addressArgs(address), ownerArg(userId, call)],
      ];
      const keys = regenerateScriptKeys(sessionId, newId);
      const results = ["id_taken", "compare_address"] as const;
      const { outcome, values } = await scripts.run("regeneration_regenerate", keys, args, call, results);
      if (outcome !== "id_taken") return addressCheckedFromReply({ outcome, values });
    }
  }

  /**
   * Marks an anonymous session as moving to the user who logs in, so that nothing but its end changes it for `MARK_MS`.
   * Waits while another login moves it.
   * @throws SessionError SESSION_NOT_FOUND.
   */
  async function beginMove(
    { sessionId, requestId, secrets }: Pick<Regeneration, "sessionId" | "requestId" | "secrets">,
    moveId: string,
    call: CallContext,
  ): Promise<MoveBegun> {
    const args = [
      ...[moveId, String(MARK_MS), secrets?.presented ?? NONE, requestDigest(requestId), String(REQUEST_ID_TTL_MS)],
      ...auditArgs(settings, call),
    ];
    const results = ["owned", "moved"] as const;
    const reply = await scripts.runOnSession("regeneration_begin_move", sessionId, args, call, results);
    if (reply.outcome === "owned") return { state: "owned" };
    if (reply.outcome === "moved") return { state: "moved", successor: String(reply.values[0]) };
    return { state: "begun", stored: storedSessionFromReply(reply.values) };
  }

  /**
   * Ends a move: the session ends because `successor` took its place, or goes on if that is empty. Returns false if the
   * session has ended meanwhile, or the move took too long.
   */
  async function endMove(
    { sessionId, requestId }: Pick<Regeneration, "sessionId" | "requestId">,
    moveId: string,
    successor: string,
    call: CallContext,
  ): Promise<boolean> {
    const [, by] = auditArgs(settings, call);
    const args = [moveId, successor, requestDigest(requestId), by];
    const { outcome } = await scripts.runOnSession("regeneration_end_move", sessionId, args, call, ["not_found"]);
    return outcome === "ok";
  }

  return { regenerate, beginMove, endMove };
}

function requestDigest(requestId: string): Buffer {
  return requestId === "" ? NONE : sha256(Buffer.from(requestId));
}
