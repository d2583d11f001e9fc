// One spelling for each IP address, so that addresses can be compared as text.

import { isIP, isIPv6, SocketAddress } from "node:net";

/** `[address]`, `[address]:port` or `IPv4:port`. The address is in one of the two groups. */
const DECORATED = /^(?:\[(.*)\](?::\d+)?|([\d.]+):\d+)$/s;

/**
 * Returns the same text for all spellings of an address: IPv6 in its short form of RFC 5952, and IPv4 for an IPv4-mapped IPv6
 * address. Ignores surrounding spaces, brackets, a port and the zone of an IPv6 address. Returns text that is no address in
 * lower case.
 */
export function canonicalIpAddress(text: string): string {
  const trimmed = text.trim().toLowerCase();
  const [, inBrackets, beforePort] = DECORATED.exec(trimmed) ?? [];
  const address = inBrackets ?? beforePort ?? trimmed;
  if (!isIPv6(address)) return isIP(address) === 0 ? trimmed : address;
  // SocketAddress throws for a long address with a zone, or misreads it.
  const zoneless = address.replace(/%.*/s, "");
  return new SocketAddress({ address: zoneless, family: "ipv6" }).address.replace(/^::ffff:(?=[\d.]+$)/, "");
}
