// IP binding: what happens when a session is presented from another address than the one it was created from.

import type { CallContext } from "../../domain/call.ts";
import { canonicalIpAddress } from "../../lib/ip_address.ts";
import { IP_BINDING, type SessionRecord } from "../../store/session_record.ts";
import type { IpBindingStore } from "../../store/ip_binding.ts";
import type { SessionStore } from "../../store/simple_sessions.ts";
import { sessionMessage } from "../session_message.ts";

/** `mismatch`: the session stays valid and the response reports it. `ended`: the mismatch has ended the session. */
type IpBindingOutcome = "match" | "mismatch" | "ended";

/**
 * Compares a request's address with that of the session's creation, and applies the session's ip_binding if they differ. Returns
 * `match` if either address is empty.
 */
export type IpBindingCheck = (record: SessionRecord, ipAddress: string, call: CallContext) => Promise<IpBindingOutcome>;

type Stores = { readonly sessions: SessionStore; readonly ipBinding: IpBindingStore };

export function createIpBindingCheck({ sessions, ipBinding }: Stores): IpBindingCheck {
  return async (record, ipAddress, call) => {
    if (record.ipBinding === IP_BINDING.off || ipAddress === "") return "match";
    const createdFrom = sessionMessage({ record }).ipAddress;
    const canonical = canonicalIpAddress(ipAddress);
    if (createdFrom === "" || canonical === canonicalIpAddress(createdFrom)) return "match";
    if (record.ipBinding === IP_BINDING.invalidate) {
      await sessions.remove(record.sessionId, "revoked", "ip_mismatch", call);
      return "ended";
    }
    await ipBinding.noteIpMismatch(record.sessionId, canonical, call);
    return "mismatch";
  };
}
