// IP binding: what happens when a session is presented from another address than the one it was created from.

import type { CallContext } from "../../domain/call.ts";
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
    if (createdFrom === "" || canonicalIp(ipAddress) === canonicalIp(createdFrom)) return "match";
    if (record.ipBinding === IP_BINDING.invalidate) {
      await sessions.remove(record.sessionId, "revoked", "ip_mismatch", call);
      return "ended";
    }
    await ipBinding.noteIpMismatch(record.sessionId, ipAddress, call);
    return "mismatch";
  };
}

/** Returns one spelling for each address: lower case, and IPv4 for an IPv4-mapped IPv6 address. */
function canonicalIp(address: string): string {
  return address.toLowerCase().replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/, "");
}
