// IP binding in the store: what happens to sessions that are presented from another address.

import { hash } from "node:crypto";
import type { CallContext } from "../domain/call.ts";
import type { StoreArguments, StoreReply } from "./connection/connection.ts";
import { auditArgs, type StoreDependencies } from "./dependencies.ts";
import type { ScriptReply } from "./scripts.ts";
import { SessionRecord } from "./session_record.ts";
import { NO_SECRET, type SessionCredential } from "./simple_sessions.ts";
import { storedSessionFromReply, type StoredSession } from "./stored_session.ts";

/** The address of a request, and how it compares with that of a session's login, for a script that applies the ip_binding. */
export type AddressComparison = {
  /** Compared as text; undefined if it is not known, so that nothing is compared. */
  readonly ipAddress: string | undefined;
  /** The identity segment of the record that has the login's address; empty if nothing has been compared. */
  readonly identity: Buffer;
  readonly differs: boolean;
};

/** The session, or a record with whose address the caller must compare the request's before it calls again. */
export type AddressChecked = { readonly stored: StoredSession } | { readonly compareWith: SessionRecord };

/** Returns the ARGV address_digest, compared_identity and address_differs. */
export function addressArgs({ ipAddress, identity, differs }: AddressComparison): [string, Buffer, string] {
  return [ipAddress === undefined ? "" : addressDigest(ipAddress), identity, differs ? "1" : "0"];
}

/** Decodes the reply of a script that applies the ip_binding. */
export function addressCheckedFromReply({ outcome, values }: ScriptReply<"compare_address">): AddressChecked {
  if (outcome === "ok") return { stored: storedSessionFromReply(values) };
  return { compareWith: recordFromReply(values) };
}

export type IpBindingStore = ReturnType<typeof createIpBindingStore>;

/**
 * What became of a mismatch: `done`, `not_found` if the credential opens no session any more, or the record that the caller
 * must compare with, because the session has changed.
 */
export type MismatchOutcome = "done" | "not_found" | { readonly compareWith: SessionRecord };

export function createIpBindingStore({ scripts, settings }: StoreDependencies) {
  async function run(
    name: "ip_binding_end" | "ip_binding_record_mismatch",
    { sessionId, secretDigest }: SessionCredential,
    args: StoreArguments,
    call: CallContext,
  ): Promise<MismatchOutcome> {
    const all = [secretDigest ?? NO_SECRET, ...args, ...auditArgs(settings, call)];
    const results = ["not_found", "compare_address"] as const;
    const { outcome, values } = await scripts.runOnSession(name, sessionId, all, call, results);
    if (outcome === "compare_address") return { compareWith: recordFromReply(values) };
    return outcome === "ok" ? "done" : "not_found";
  }

  return {
    /** Ends a session that was presented from another address than that of its login, which `compared` has. */
    end: (presented: SessionCredential, compared: SessionRecord, call: CallContext) =>
      run("ip_binding_end", presented, [compared.identity], call),

    /**
     * Appends to the audit trail that a session was presented from another address than that of its login, which `compared`
     * has: once an hour for each `ipAddress`, which is compared as text.
     */
    noteMismatch: (presented: SessionCredential, compared: SessionRecord, ipAddress: string, call: CallContext) =>
      run("ip_binding_record_mismatch", presented, [compared.identity, addressDigest(ipAddress)], call),
  };
}

/** Decodes the session_id and the record of an outcome `compare_address`. */
function recordFromReply([sessionId, record]: readonly StoreReply[]): SessionRecord {
  return new SessionRecord(String(sessionId), record as Buffer);
}

function addressDigest(ipAddress: string): string {
  return hash("sha256", ipAddress, "hex").slice(0, 16);
}
