// What every Create takes, whatever the variant.

import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";
import { IpBinding, type SessionLimit } from "../../gen/session/v1/session_pb.ts";
import { SessionError } from "../domain/errors.ts";
import type { SessionKind } from "../store/record.ts";
import type { NewSession } from "../store/sessions.ts";
import { encodeIdentity } from "./session_message.ts";

/** What the server fills in where a request is silent. */
export type SessionDefaults = { readonly idleTimeoutMs: number; readonly absoluteTimeoutMs: number };

/** The fields that all Create requests share. */
type CreateRequest = {
  readonly userId: string;
  readonly idleTimeout?: Duration;
  readonly absoluteTimeout?: Duration;
  readonly limit?: SessionLimit;
  readonly ipAddress: string;
  readonly userAgent: string;
  readonly requestId: string;
  readonly authenticatedAt?: Timestamp;
  readonly ipBinding: IpBinding;
};

/** The new session that a Create asks for; the variant adds what is its own. */
export function newSession(
  request: CreateRequest,
  kind: SessionKind,
  defaults: SessionDefaults,
  own: Partial<Pick<NewSession, "data" | "fields">>,
): NewSession {
  refuseUnimplemented(request);
  return {
    userId: request.userId,
    kind,
    idleTimeoutMs: durationMs(request.idleTimeout) ?? defaults.idleTimeoutMs,
    absoluteTimeoutMs: durationMs(request.absoluteTimeout) ?? defaults.absoluteTimeoutMs,
    identity: encodeIdentity(request),
    data: own.data ?? new Uint8Array(),
    fields: own.fields ?? [],
    requestId: request.requestId,
  };
}

// A safeguard that is asked for and not given would be worse than a refusal.
function refuseUnimplemented(request: CreateRequest): void {
  const field =
    request.limit !== undefined
      ? "limit"
      : request.authenticatedAt !== undefined
        ? "authenticated_at"
        : request.ipBinding > IpBinding.OFF
          ? "ip_binding"
          : undefined;
  if (field !== undefined) throw new SessionError("METHOD_NOT_IMPLEMENTED", `${field} is not implemented yet`);
}

function durationMs(duration: Duration | undefined): number | undefined {
  return duration && Number(duration.seconds) * 1000 + Math.floor(duration.nanos / 1e6);
}
