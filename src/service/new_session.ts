// The part of a Create request that all variants share, turned into a new session for the store.

import type { Message } from "@bufbuild/protobuf";
import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";
import { IpBinding, OnExceed, type Device, type SessionLimit } from "../../gen/session/v1/session_pb.ts";
import type { CreateSessionRequest } from "../../gen/session/v1/simple_sessions_pb.ts";
import type { NewSession } from "../store/create_session.ts";
import { IP_BINDING, type IpBindingFlag, type SessionKind } from "../store/session_record.ts";
import { encodeIdentity } from "./session_message.ts";

/** The server's values for what a request leaves unset. */
export type SessionDefaults = {
  readonly idleTimeoutMs: number;
  readonly absoluteTimeoutMs: number;
  /** The limit on a user's live sessions, 0 for none, and what happens to a create above it. */
  readonly maxSessionsPerUser: number;
  readonly onExceed: "reject" | "evict";
};

/** What every Create request has: fields 10 to 17, and the user. */
type CreateRequest = Omit<CreateSessionRequest, keyof Message | "data">;

/** Returns the session that a Create request describes. `own` has the parts that are particular to its variant. */
export function newSession(
  request: CreateRequest,
  kind: SessionKind,
  defaults: SessionDefaults,
  own: { data?: Uint8Array; fields?: NewSession["fields"]; device?: Device },
): NewSession {
  return {
    userId: request.userId,
    kind,
    ipBinding: ipBindingFlag(request.ipBinding),
    idleTimeoutMs: durationToMs(request.idleTimeout) ?? defaults.idleTimeoutMs,
    absoluteTimeoutMs: durationToMs(request.absoluteTimeout) ?? defaults.absoluteTimeoutMs,
    deviceId: own.device?.deviceId ?? "",
    identity: encodeIdentity(request, own.device),
    data: own.data ?? new Uint8Array(),
    fields: own.fields ?? [],
    requestId: request.requestId,
    ...limitOf(request.limit, defaults),
    // Rounded down, so that a login in the same millisecond as a DeleteUserSessions counts as before it. 0 means unset.
    authenticatedAtMs: request.authenticatedAt ? Math.max(1, wholeMs(request.authenticatedAt)) : 0,
  };
}

/** Returns the whole milliseconds of a duration, rounded down, or undefined if it is unset. */
export function durationToMs(duration: Duration | undefined): number | undefined {
  return duration && wholeMs(duration);
}

function wholeMs({ seconds, nanos }: Duration | Timestamp): number {
  return Number(seconds) * 1000 + Math.floor(nanos / 1e6);
}

function limitOf(
  limit: SessionLimit | undefined,
  defaults: SessionDefaults,
): Pick<NewSession, "maxSessions" | "onExceed"> {
  if (limit === undefined) return { maxSessions: defaults.maxSessionsPerUser, onExceed: defaults.onExceed };
  return { maxSessions: limit.maxSessions, onExceed: limit.onExceed === OnExceed.EVICT_OLDEST ? "evict" : "reject" };
}

function ipBindingFlag(binding: IpBinding): IpBindingFlag {
  if (binding === IpBinding.WARN) return IP_BINDING.warn;
  return binding === IpBinding.INVALIDATE ? IP_BINDING.invalidate : IP_BINDING.off;
}
