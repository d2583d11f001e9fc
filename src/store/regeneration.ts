// Regeneration in the store: a session gets a new id.

import type { CallContext } from "../domain/call.ts";
import { ownerPrefixOf } from "../domain/owner.ts";
import { newSessionId, partitionOfSessionId } from "../domain/session_id.ts";
import { sha256 } from "../lib/hmac.ts";
import { auditArgs, REQUEST_ID_TTL_MS, type StoreDependencies } from "./dependencies.ts";
import { addressArgs, addressCheckedFromReply, type AddressChecked, type AddressComparison } from "./ip_binding.ts";
import { regenerateScriptKeys } from "./keys.ts";
import { sessionNotFound } from "./script_outcomes.ts";

/** What a RegenerateSession asks for. */
export type Regeneration = {
  readonly sessionId: string;
  /** The old id leads to the session for this time. */
  readonly graceMs: number;
  /** Empty if the caller gave none. */
  readonly requestId: string;
  /** For a secure session: the SHA-256 digests of the presented secret and of its replacement. */
  readonly secrets?: { readonly presented: Buffer; readonly next: Buffer };
};

const NONE = Buffer.alloc(0);

export type RegenerationStore = ReturnType<typeof createRegenerationStore>;

export function createRegenerationStore({ scripts, settings }: StoreDependencies) {
  /**
   * Gives a session a new id, or returns the session that this request id gave one before. Applies the ip_binding first.
   * @throws SessionError SESSION_NOT_FOUND.
   */
  async function regenerate(
    { sessionId, graceMs, requestId, secrets = { presented: NONE, next: NONE } }: Regeneration,
    address: AddressComparison,
    call: CallContext,
  ): Promise<AddressChecked> {
    const partition = partitionOfSessionId(sessionId);
    if (partition === undefined) throw sessionNotFound();
    for (;;) {
      const newId = newSessionId(partition);
      const args = [
        ...[sessionId, ownerPrefixOf(call.principal.tenant), newId, String(graceMs), ...auditArgs(settings, call)],
        ...[secrets.presented, secrets.next, requestId === "" ? NONE : sha256(Buffer.from(requestId))],
        ...[String(REQUEST_ID_TTL_MS), ...addressArgs(address)],
      ];
      const keys = regenerateScriptKeys(sessionId, newId);
      const results = ["id_taken", "compare_address"] as const;
      const { outcome, values } = await scripts.run("regeneration_regenerate", keys, args, call, results);
      if (outcome !== "id_taken") return addressCheckedFromReply({ outcome, values });
    }
  }

  return { regenerate };
}
