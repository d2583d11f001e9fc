// IP binding in the store: the audit entries about sessions that are presented from another address.

import { hash } from "node:crypto";
import type { CallContext } from "../domain/call.ts";
import { auditArgs, type StoreDependencies } from "./dependencies.ts";
import type { ScriptReply } from "./scripts.ts";
import { SessionRecord } from "./session_record.ts";
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
  return { compareWith: new SessionRecord(String(values[0]), values[1] as Buffer) };
}

export type IpBindingStore = ReturnType<typeof createIpBindingStore>;

export function createIpBindingStore({ scripts, settings }: StoreDependencies) {
  /**
   * Appends to the audit trail that a session was presented from another address: once an hour for each `ipAddress`,
   * which is compared as text. Does nothing if the session has ended.
   */
  async function noteIpMismatch(sessionId: string, ipAddress: string, call: CallContext): Promise<void> {
    const args = [addressDigest(ipAddress), ...auditArgs(settings, call)];
    await scripts.runOnSession("ip_binding_record_mismatch", sessionId, args, call, ["not_found"]);
  }

  return { noteIpMismatch };
}

function addressDigest(ipAddress: string): string {
  return hash("sha256", ipAddress, "hex").slice(0, 16);
}
