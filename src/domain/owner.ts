// Owners: the text that names one user of one tenant in keys, records and changes, and the partition it hashes to.

import { hash } from "node:crypto";

/** How many partitions there are. All keys of a user are in one. */
export const PARTITION_COUNT = 256;

/**
 * `<tenant>:<user>`, percent-encoded, so that no id can forge a separator, a hash tag or a key. Both must be well-formed
 * UTF-16: encodeURIComponent throws on a lone surrogate.
 */
export function ownerOf(tenant: string, userId: string): string {
  return `${encodeURIComponent(tenant)}:${encodeURIComponent(userId)}`;
}

// Tenants come from the credentials, so there are few of them; and every call asks.
const ownerPrefixes = new Map<string, string>();

/** The prefix of every owner of a tenant. */
export function ownerPrefixOf(tenant: string): string {
  let prefix = ownerPrefixes.get(tenant);
  if (prefix === undefined) ownerPrefixes.set(tenant, (prefix = `${encodeURIComponent(tenant)}:`));
  return prefix;
}

/** The user that an owner names. */
export function userIdOfOwner(owner: string): string {
  return decodeURIComponent(owner.slice(owner.indexOf(":") + 1));
}

/** The partition of an owner, 0 to 255. Part of the stored format: never change it. */
export function partitionOfOwner(owner: string): number {
  return hash("sha256", owner, "buffer")[0]!;
}
