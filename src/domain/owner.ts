// Owners: the text that names one user of one tenant in keys, records and changes, and the partition it hashes to.

import { hash, randomBytes } from "node:crypto";

/** The number of partitions. All keys of a user are in one of them. Part of the stored format: never change it. */
export const PARTITION_COUNT = 256;

/**
 * Returns `<tenant>:<user>`, each percent-encoded, so that no id can forge a separator, a hash tag or a key.
 *
 * @throws URIError if one of them has a lone surrogate.
 */
export function ownerOf(tenant: string, userId: string): string {
  return `${encodeURIComponent(tenant)}:${encodeURIComponent(userId)}`;
}

/** No percent-encoded user id contains it. */
const ANONYMOUS_MARK = "@";
const NAME_BYTES = 16;

/**
 * Returns the owner of one anonymous session, `<tenant>:@<name>`: a random name, or one derived from the request id of its
 * create, so that a retry finds the session.
 */
export function anonymousOwnerOf(tenant: string, requestId: string): string {
  const digest = requestId === "" ? randomBytes(NAME_BYTES) : hash("sha256", `${tenant}\0${requestId}`, "buffer");
  return ownerPrefixOf(tenant) + ANONYMOUS_MARK + digest.subarray(0, NAME_BYTES).toString("base64url");
}

// Every call needs a prefix. Tenants come from the credentials, so the map stays small.
const ownerPrefixes = new Map<string, string>();

/** Returns the prefix of every owner of a tenant: `<tenant>:`, percent-encoded. */
export function ownerPrefixOf(tenant: string): string {
  let prefix = ownerPrefixes.get(tenant);
  if (prefix === undefined) ownerPrefixes.set(tenant, (prefix = `${encodeURIComponent(tenant)}:`));
  return prefix;
}

/** Returns the tenant in an owner, decoded. */
export function tenantOfOwner(owner: string): string {
  return decodeURIComponent(owner.slice(0, owner.indexOf(":")));
}

/** Returns the user id in an owner, decoded; empty for the owner of an anonymous session. */
export function userIdOfOwner(owner: string): string {
  const user = owner.slice(owner.indexOf(":") + 1);
  return user.startsWith(ANONYMOUS_MARK) ? "" : decodeURIComponent(user);
}

/** Returns true if the owner is that of an anonymous session, `<tenant>:@…`: no user's id has this character in an owner. */
export function isAnonymousOwner(owner: string): boolean {
  return owner[owner.indexOf(":") + 1] === ANONYMOUS_MARK;
}

/** Returns the partition of an owner, 0 to 255. Part of the stored format: never change it. */
export function partitionOfOwner(owner: string): number {
  return hash("sha256", owner, "buffer")[0]!;
}
