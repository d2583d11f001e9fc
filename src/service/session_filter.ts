// The filter of ListSessions and EndSessions.

import { BlockList, isIP } from "node:net";
import { fromBinary, toJsonString, type Message } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { SessionFilterSchema, type SessionFilter } from "../../gen/session/v1/admin_pb.ts";
import { DeviceType, SessionSchema } from "../../gen/session/v1/session_pb.ts";
import { invalidField } from "../domain/errors.ts";
import { isAnonymousOwner } from "../domain/owner.ts";
import { canonicalIpAddress } from "../lib/ip_address.ts";
import type { ChangeableConditions } from "../store/admin_end.ts";
import type { SessionRecord } from "../store/session_record.ts";
import { encodeLabels } from "./session_message.ts";

export type SessionMatcher = (record: SessionRecord) => boolean;

/**
 * Returns a function that evaluates all conditions of a filter except `user_ids`, which select what is read.
 *
 * @throws SessionError INVALID_REQUEST for an address prefix that is none.
 */
export function sessionMatcher(filter: SessionFilter | undefined): SessionMatcher {
  if (filter === undefined) return () => true;
  const { deviceType, anonymous } = filter;
  const conditions: SessionMatcher[] = [];
  const createdAfter = filter.createdAfter && timestampMs(filter.createdAfter);
  const createdBefore = filter.createdBefore && timestampMs(filter.createdBefore);
  const accessedAfter = filter.accessedAfter && timestampMs(filter.accessedAfter);
  const accessedBefore = filter.accessedBefore && timestampMs(filter.accessedBefore);
  if (createdAfter !== undefined) conditions.push((record) => record.createdMs >= createdAfter);
  if (createdBefore !== undefined) conditions.push((record) => record.createdMs < createdBefore);
  if (accessedAfter !== undefined) conditions.push((record) => record.lastAccessedMs >= accessedAfter);
  if (accessedBefore !== undefined) conditions.push((record) => record.lastAccessedMs < accessedBefore);
  if (deviceType !== DeviceType.UNSPECIFIED) conditions.push((record) => record.deviceType === deviceType);
  if (anonymous !== undefined) conditions.push((record) => isAnonymousOwner(record.owner) === anonymous);
  const labels = Object.entries(filter.labels);
  if (labels.length > 0) conditions.push((record) => hasLabels(record, labels));
  if (filter.addressPrefix !== "") conditions.push(addressCondition(filter.addressPrefix));
  return (record) => conditions.every((condition) => condition(record));
}

/** Returns the conditions of a filter that the script which ends a session evaluates again. */
export function changeableConditions(filter: SessionFilter | undefined): ChangeableConditions {
  return {
    accessedFromMs: filter?.accessedAfter && timestampMs(filter.accessedAfter),
    accessedUntilMs: filter?.accessedBefore && timestampMs(filter.accessedBefore),
    deviceType: filter?.deviceType ?? DeviceType.UNSPECIFIED,
    labels: Object.entries(filter?.labels ?? {}).map(([key, value]) => encodeLabels({ [key]: value })),
  };
}

/** Returns a text that only equal filters have, to which the tokens of a list are bound. */
export function filterScope(filter: SessionFilter | undefined): string {
  return filter === undefined ? "" : toJsonString(SessionFilterSchema, filter);
}

/** Returns whether a filter has a condition. */
export function hasCondition({ labels, userIds, ...filter }: Omit<SessionFilter, keyof Message>): boolean {
  const { createdAfter, createdBefore, accessedAfter, accessedBefore, deviceType, anonymous, addressPrefix } = filter;
  const single = [createdAfter, createdBefore, accessedAfter, accessedBefore, anonymous];
  return (
    single.some((condition) => condition !== undefined) ||
    deviceType !== DeviceType.UNSPECIFIED ||
    addressPrefix !== "" ||
    Object.keys(labels).length > 0 ||
    userIds.length > 0
  );
}

function hasLabels(record: SessionRecord, wanted: readonly [string, string][]): boolean {
  const { labels } = fromBinary(SessionSchema, record.labels);
  return wanted.every(([key, value]) => Object.hasOwn(labels, key) && labels[key] === value);
}

function addressCondition(prefix: string): SessionMatcher {
  const [address = "", length, ...rest] = prefix.split("/");
  const network = canonicalIpAddress(address);
  const version = isIP(network);
  const bits = version === 6 ? 128 : 32;
  const isLength = length === undefined || (/^\d{1,3}$/.test(length) && Number(length) <= bits);
  if (version === 0 || !isLength || rest.length > 0) {
    throw invalidField("filter.address_prefix", "is no address and no network such as 203.0.113.0/24");
  }
  const networks = new BlockList();
  networks.addSubnet(network, Number(length ?? bits), familyOf(version));
  return (record) => {
    const recorded = canonicalIpAddress(fromBinary(SessionSchema, record.identity).ipAddress);
    return isIP(recorded) === version && networks.check(recorded, familyOf(version));
  };
}

function familyOf(version: number): "ipv4" | "ipv6" {
  return version === 6 ? "ipv6" : "ipv4";
}
