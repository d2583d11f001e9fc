// IP binding in the store: the audit entries about sessions that are presented from another address.

import { hash } from "node:crypto";
import type { CallContext } from "../domain/call.ts";
import { auditArgs, type StoreDependencies } from "./dependencies.ts";

export type IpBindingStore = ReturnType<typeof createIpBindingStore>;

export function createIpBindingStore({ scripts, settings }: StoreDependencies) {
  /**
   * Appends to the audit trail that a session was presented from another address: once an hour for each `ipAddress`,
   * which is compared as text. Does nothing if the session has ended.
   */
  async function noteIpMismatch(sessionId: string, ipAddress: string, call: CallContext): Promise<void> {
    const digest = hash("sha256", ipAddress, "hex").slice(0, 16);
    const args = [digest, ...auditArgs(settings, call)];
    await scripts.runOnSession("ip_binding_record_mismatch", sessionId, args, call, ["not_found"]);
  }

  return { noteIpMismatch };
}
