// IP binding: what happens when a session is presented from another address than its login's.

import type { CallContext } from "../../domain/call.ts";
import { IP_BINDING, type SessionRecord } from "../../store/session_record.ts";
import type { IpBindingStore } from "../../store/ip_binding.ts";
import type { SessionStore } from "../../store/simple_sessions.ts";
import { sessionMessage } from "../session_message.ts";

/** `mismatch` is told to the caller; `ended`: the session is no more. */
export type IpVerdict = "match" | "mismatch" | "ended";

export type IpBindingCheck = ReturnType<typeof createIpBindingCheck>;

export function createIpBindingCheck(sessions: SessionStore, ipBinding: IpBindingStore) {
  /** An address that is not given, at the login or now, is not compared. The binding and the login's address never change. */
  return async function checkIpBinding(
    record: SessionRecord,
    ipAddress: string,
    call: CallContext,
  ): Promise<IpVerdict> {
    if (record.ipBinding === IP_BINDING.off || ipAddress === "") return "match";
    const loginIp = sessionMessage(record).ipAddress;
    if (loginIp === "" || canonicalIp(ipAddress) === canonicalIp(loginIp)) return "match";
    if (record.ipBinding === IP_BINDING.invalidate) {
      await sessions.remove(record.sessionId, "revoked", "ip_mismatch", call);
      return "ended";
    }
    await ipBinding.noteIpMismatch(record.sessionId, ipAddress, call);
    return "mismatch";
  };
}

/** One spelling for an address: lower case, and IPv4 for an IPv4-mapped IPv6 address. */
function canonicalIp(address: string): string {
  return address.toLowerCase().replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/, "");
}
