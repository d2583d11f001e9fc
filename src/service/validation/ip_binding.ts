// IP binding: what happens when a session is presented from another address than the one it was created from.

import type { CallContext } from "../../domain/call.ts";
import { canonicalIpAddress } from "../../lib/ip_address.ts";
import { IP_BINDING, type SessionRecord } from "../../store/session_record.ts";
import { isOnlyWriteRefused } from "../../store/connection/errors.ts";
import type { AddressChecked, AddressComparison, IpBindingStore } from "../../store/ip_binding.ts";
import type { SessionCredential } from "../../store/simple_sessions.ts";
import type { StoredSession } from "../../store/stored_session.ts";
import { sessionMessage } from "../session_message.ts";

/** `mismatch`: the session stays valid and the response reports it. `ended`: the mismatch has ended the session. */
type IpBindingOutcome = "match" | "mismatch" | "ended";

/**
 * Compares a request's address with that of the session's creation, and applies the session's ip_binding if they differ. Returns
 * `match` if either address is empty. `record` is the one that the response is made of, and `presented` is what it was found by.
 */
export type IpBindingCheck = (
  record: SessionRecord,
  presented: SessionCredential,
  ipAddress: string,
  call: CallContext,
) => Promise<IpBindingOutcome>;

export function createIpBindingCheck({ ipBinding }: { readonly ipBinding: IpBindingStore }): IpBindingCheck {
  return async (record, presented, ipAddress, call) => {
    if (record.ipBinding === IP_BINDING.off || ipAddress === "") return "match";
    const canonical = canonicalIpAddress(ipAddress);
    for (let compared = record; ;) {
      if (compared.ipBinding === IP_BINDING.off || !differsFromLogin(compared, canonical)) return "match";
      const ends = compared.ipBinding === IP_BINDING.invalidate;
      const outcome = await (ends
        ? ipBinding.end(presented, compared, call)
        : ipBinding.noteMismatch(presented, compared, canonical, call).catch(unlessOnlyWriteRefused));
      if (typeof outcome === "string") return ends ? "ended" : "mismatch";
      compared = outcome.compareWith;
    }
  };
}

/** A note that the store has no room for must not fail the call; the next mismatch is noted. */
function unlessOnlyWriteRefused(error: unknown): "done" {
  if (isOnlyWriteRefused(error)) return "done";
  throw error;
}

/**
 * Runs a change whose script applies the ip_binding: first without a comparison, and again with one if the session has a
 * binding. Only the script knows which session it is about, and whether its caller may use it.
 */
export async function changeFromAddress(
  ipAddress: string,
  change: (address: AddressComparison) => Promise<AddressChecked>,
): Promise<{ stored: StoredSession; ipMismatch: boolean }> {
  const canonical = canonicalIpAddress(ipAddress);
  let address: AddressComparison = {
    ipAddress: ipAddress === "" ? undefined : canonical,
    identity: Buffer.alloc(0),
    differs: false,
  };
  for (;;) {
    const result = await change(address);
    // A session that the mismatch has ended is an error, so that one which is left only reports it.
    if ("stored" in result) return { stored: result.stored, ipMismatch: address.differs };
    const { identity } = result.compareWith;
    address = { ...address, identity, differs: differsFromLogin(result.compareWith, canonical) };
  }
}

/** @param ipAddress In its canonical form. */
function differsFromLogin(record: SessionRecord, ipAddress: string): boolean {
  const createdFrom = sessionMessage({ record }).ipAddress;
  return createdFrom !== "" && canonicalIpAddress(createdFrom) !== ipAddress;
}
