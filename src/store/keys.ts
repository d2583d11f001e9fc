// Every key of the store, `sa:{tag}:…`. All keys of one user carry the same tag, so they are in one cluster slot.

import { ownerOf, partitionOfOwner } from "../domain/owner.ts";
import { partitionOfSessionId } from "../domain/session_id.ts";
import { PARTITION_TAGS } from "./partition_tags.ts";

/** The channel on which the changes of all partitions are published. */
export const CHANGES_CHANNEL = "sa:changes";

/** The prefix of each partition's keys, and the four keys that all its users share. */
const PARTITIONS = PARTITION_TAGS.map((tag) => {
  const base = `sa:{${tag}}:`;
  return { base, shared: [`${base}live`, `${base}log`, `${base}tail`, `${base}meta`] as const };
});

/** Returns the last four KEYS of every script: the partition's live set, change log, its tail, and the epoch's meta. */
export function partitionKeys(partition: number) {
  return PARTITIONS[partition]!.shared;
}

/** The key of the lease of the instance that sweeps. */
export const SWEEP_LEASE_KEY = `${PARTITIONS[0]!.base}sweep`;

/** Returns the key that is written to wait for replicas of a partition. */
export function replicationKey(partition: number): string {
  return `${PARTITIONS[partition]!.base}wait`;
}

/** Returns the key of a session's record, or undefined if no session can have this id. */
export function recordKey(sessionId: string): string | undefined {
  const partition = partitionOfSessionId(sessionId);
  return partition === undefined ? undefined : `${PARTITIONS[partition]!.base}s:${sessionId}`;
}

/**
 * Returns the KEYS of a script about one session: record, fields, tombstone, then the partition's four; undefined if no
 * session can have this id.
 */
export function sessionScriptKeys(sessionId: string): string[] | undefined {
  const partition = partitionOfSessionId(sessionId);
  if (partition === undefined) return undefined;
  const { base, shared } = PARTITIONS[partition]!;
  return [`${base}s:${sessionId}`, `${base}f:${sessionId}`, `${base}t:${sessionId}`, ...shared];
}

/** Returns the KEYS of a script about one user: index, audit trail, devices, last revoke-all, then the partition's four. */
export function userScriptKeys(owner: string): string[] {
  const { base, shared } = PARTITIONS[partitionOfOwner(owner)]!;
  return [`${base}u:${owner}`, `${base}a:${owner}`, `${base}d:${owner}`, `${base}r:${owner}`, ...shared];
}

/** Returns the keys of a tenant's sessions in a partition: their count, how many the index lacks, and the index. */
export function tenantKeys(partition: number, tenant: string) {
  const { base } = PARTITIONS[partition]!;
  const name = encodeURIComponent(tenant);
  return { count: `${base}c:${name}`, unindexed: `${base}m:${name}`, index: `${base}n:${name}` };
}

/** Returns the key of the set of tenants, percent-encoded, that have sessions in a partition. */
export function tenantSetKey(partition: number): string {
  return `${PARTITIONS[partition]!.base}tenants`;
}

/** Returns the KEYS of a user's audit trail: logins and ends, changes, address mismatches. */
export function auditKeys(owner: string): string[] {
  const { base } = PARTITIONS[partitionOfOwner(owner)]!;
  return [`${base}a:${owner}`, `${base}ac:${owner}`, `${base}am:${owner}`];
}

/** Returns the KEYS of create_session: session, user, request id, create rate, then the partition's four. */
export function createScriptKeys(sessionId: string, owner: string, requestId: string): string[] {
  const { base, shared } = PARTITIONS[partitionOfOwner(owner)]!;
  const session = sessionScriptKeys(sessionId)!.slice(0, 3);
  const user = userScriptKeys(owner).slice(0, 4);
  return [...session, ...user, `${base}x:${owner}:${encodeURIComponent(requestId)}`, `${base}q:${owner}`, ...shared];
}

/** Returns the KEYS of secure_sessions_rotate_token: session, its last rotation, then the partition's four. */
export function rotateScriptKeys(sessionId: string): string[] {
  const { base, shared } = PARTITIONS[partitionOfSessionId(sessionId)!]!;
  return [...sessionScriptKeys(sessionId)!.slice(0, 3), `${base}g:${sessionId}`, ...shared];
}

/** Returns the KEYS of regeneration_regenerate: old session, new session, then the partition's four. */
export function regenerateScriptKeys(sessionId: string, newSessionId: string): string[] {
  return [...sessionScriptKeys(sessionId)!.slice(0, 3), ...sessionScriptKeys(newSessionId)!];
}

/** Returns the key of a device's hint. It is in the device's own partition, because its users may be in any. */
export function deviceHintKey(tenant: string, deviceId: string): string {
  const device = ownerOf(tenant, deviceId);
  return `${PARTITIONS[partitionOfOwner(device)]!.base}p:${device}`;
}
