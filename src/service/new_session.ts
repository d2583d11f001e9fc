// Creates sessions, for the four Create methods: their requests differ only in what they make mandatory.

import type { Message } from "@bufbuild/protobuf";
import {
  DeviceType,
  IpBinding,
  LimitPer,
  OnExceed,
  TimeoutProfile,
  type Authentication,
  type SessionLimit,
} from "../../gen/session/v1/session_pb.ts";
import type { CreateSessionRequest } from "../../gen/session/v1/simple_sessions_pb.ts";
import type { CallContext } from "../domain/call.ts";
import { invalidField } from "../domain/errors.ts";
import { TIMEOUT_PROFILES } from "../domain/timeout_profiles.ts";
import { durationToMs, wholeMs } from "../lib/duration.ts";
import type { NewSession } from "../store/create_session.ts";
import { IP_BINDING, RECORD_KIND, recordFlags, type IpBindingFlag } from "../store/session_record.ts";
import type { StoredSession } from "../store/stored_session.ts";
import type { ServiceDependencies, SessionDefaults } from "./dependencies.ts";
import { encodeAuthentication, encodeData, encodeIdentity, encodeLabels } from "./session_message.ts";

const PROFILE_NAMES: Readonly<Record<TimeoutProfile, keyof typeof TIMEOUT_PROFILES | undefined>> = {
  [TimeoutProfile.UNSPECIFIED]: undefined,
  [TimeoutProfile.AAL1]: "aal1",
  [TimeoutProfile.AAL2]: "aal2",
  [TimeoutProfile.AAL3]: "aal3",
};

/** What every Create request has. */
type CreateRequest = Omit<CreateSessionRequest, keyof Message>;

type Dependencies = Pick<ServiceDependencies, "create" | "deviceSessions" | "defaults">;

/**
 * Creates the session that a request describes. `secretDigest` is the SHA-256 of the secret if a token opens it.
 * @throws SessionError INVALID_REQUEST for data that is too large, too deep, or has a number that is not finite; those of
 * SessionCreator.
 */
export async function createNewSession(
  { create, deviceSessions, defaults }: Dependencies,
  request: CreateRequest,
  method: NewSession["method"],
  call: CallContext,
  secretDigest?: Buffer,
): Promise<StoredSession> {
  const created = await create(newSession(request, method, defaults), call, secretDigest);
  // The hint is in another slot, so it cannot be part of the create's step. If this fails, the caller gets UNAVAILABLE,
  // and its retry with the same request_id writes the hint.
  await deviceSessions.remember(created.record, created.record.createdMs, call);
  return created;
}

function newSession(request: CreateRequest, method: NewSession["method"], defaults: SessionDefaults): NewSession {
  const device = request.device && { ...request.device, type: request.device.type || DeviceType.UNKNOWN };
  const limit = limitOf(request, defaults);
  const isEvictable = limit.maxSessions > 0 && limit.onExceed === "evict";
  return {
    userId: request.userId,
    method,
    kind: method === "secure" ? RECORD_KIND.token : RECORD_KIND.id,
    flags: recordFlags(ipBindingFlag(request.ipBinding), device?.type ?? 0, isEvictable),
    ...timeoutsOf(request, defaults),
    deviceId: device?.deviceId ?? "",
    identity: encodeIdentity(request, device),
    data: encodeData(request.data),
    labels: encodeLabels(request.labels),
    authentication: encodeAuthentication(request.authentication),
    authenticatedAtMs: authenticatedAtMs(request.authentication),
    fields: Object.entries(request.fields),
    requestId: request.requestId,
    actor: request.actor,
    note: request.note,
    ...limit,
  };
}

/** @throws SessionError INVALID_REQUEST for an absolute timeout above SA_ABSOLUTE_TIMEOUT_MAX. */
function timeoutsOf(
  { idleTimeout, absoluteTimeout, timeoutProfile }: CreateRequest,
  defaults: SessionDefaults,
): Pick<NewSession, "idleTimeoutMs" | "absoluteTimeoutMs"> {
  const profile = PROFILE_NAMES[timeoutProfile];
  const unset = profile === undefined ? defaults : TIMEOUT_PROFILES[profile];
  const absoluteTimeoutMs = durationToMs(absoluteTimeout) ?? unset.absoluteTimeoutMs;
  if (absoluteTimeoutMs > defaults.absoluteTimeoutMaxMs) {
    throw invalidField("absolute_timeout", `is more than ${defaults.absoluteTimeoutMaxMs} ms, SA_ABSOLUTE_TIMEOUT_MAX`);
  }
  return { idleTimeoutMs: durationToMs(idleTimeout) ?? unset.idleTimeoutMs, absoluteTimeoutMs };
}

/** Returns 0 if nothing is known of the proof, and -1 for one at the time of the call. */
export function authenticatedAtMs(authentication: Authentication | undefined): number {
  if (authentication === undefined) return 0;
  // Rounded down, so that a login in the same millisecond as a DeleteUserSessions counts as before it.
  return authentication.time ? Math.max(1, wholeMs(authentication.time)) : -1;
}

/** Returns the limit that applies to a login. An anonymous session has none. */
export function limitOf(
  { userId, limit, labels }: Pick<CreateRequest, "userId" | "limit" | "labels">,
  defaults: SessionDefaults,
): Pick<NewSession, "maxSessions" | "limitGroup" | "onExceed"> {
  if (limit === undefined) {
    return {
      maxSessions: userId === "" ? 0 : defaults.maxSessionsPerUser,
      limitGroup: "user",
      onExceed: defaults.onExceed,
    };
  }
  const onExceed = limit.onExceed === OnExceed.EVICT_OLDEST ? "evict" : "reject";
  return { maxSessions: limit.maxSessions, limitGroup: limitGroup(limit, labels), onExceed };
}

function limitGroup({ per, labelKey }: SessionLimit, labels: CreateRequest["labels"]): NewSession["limitGroup"] {
  if (per === LimitPer.DEVICE_TYPE) return "device_type";
  return per === LimitPer.LABEL ? encodeLabels({ [labelKey]: labels[labelKey]! }) : "user";
}

export function ipBindingFlag(binding: IpBinding): IpBindingFlag {
  if (binding === IpBinding.WARN) return IP_BINDING.warn;
  return binding === IpBinding.INVALIDATE ? IP_BINDING.invalidate : IP_BINDING.off;
}
