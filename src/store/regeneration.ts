// Regeneration in the store: a session gets a new id.

import type { CallContext } from "../domain/call.ts";
import { ownerPrefixOf } from "../domain/owner.ts";
import { newSessionId, partitionOfSessionId } from "../domain/session_id.ts";
import { auditArgs, type StoreDependencies } from "./dependencies.ts";
import { regenerateScriptKeys } from "./keys.ts";
import { sessionNotFound } from "./script_outcomes.ts";
import { storedSessionFromReply } from "./stored_session.ts";

/** For a secure session: the SHA-256 digests of the presented secret and of its replacement; empty for other kinds. */
type SecretReplacement = { readonly presented: Buffer; readonly next: Buffer };
const NO_SECRETS: SecretReplacement = { presented: Buffer.alloc(0), next: Buffer.alloc(0) };

export type RegenerationStore = ReturnType<typeof createRegenerationStore>;

export function createRegenerationStore({ scripts, settings }: StoreDependencies) {
  /** Gives a session a new id; the old id leads to the session for `graceMs`. */
  async function regenerate(sessionId: string, graceMs: number, call: CallContext, secrets = NO_SECRETS) {
    const partition = partitionOfSessionId(sessionId);
    if (partition === undefined) throw sessionNotFound();
    for (;;) {
      const newId = newSessionId(partition);
      const change = [newId, String(graceMs), ...auditArgs(settings, call), secrets.presented, secrets.next];
      const args = [sessionId, ownerPrefixOf(call.principal.tenant), ...change];
      const keys = regenerateScriptKeys(sessionId, newId);
      const { outcome, values } = await scripts.run("regeneration_regenerate", keys, args, call, ["id_taken"]);
      if (outcome === "ok") return storedSessionFromReply(values);
    }
  }

  return { regenerate };
}
