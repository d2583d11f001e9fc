// Changes of living sessions: UpdateSession, RecordAuthentication; and the store's clock: GetServerTime.

import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { UpdateSessionRequest } from "../../gen/session/v1/session_updates_pb.ts";
import { invalidField, SessionError } from "../domain/errors.ts";
import { deriveSecret, mintToken, newSecret, verifyToken } from "../domain/token.ts";
import { sessionNotFound } from "../store/script_outcomes.ts";
import { recordFlags, type SessionRecord } from "../store/session_record.ts";
import type { SessionUpdate } from "../store/session_updates.ts";
import type { ServiceDependencies } from "./dependencies.ts";
import type { SessionServiceImpl } from "./handlers.ts";
import { authenticatedAtMs, ipBindingFlag } from "./new_session.ts";
import { encodeAuthentication, encodeIdentity, encodeLabels, sessionMessage } from "./session_message.ts";
import { durationToMs, wholeMs } from "../lib/duration.ts";

const PATHS = ["idle_timeout", "absolute_expire_time", "device_name", "device_last_ip_address", "labels", "ip_binding"];

export function createSessionUpdateService({ sessions, sessionUpdates, keyRing }: ServiceDependencies) {
  return {
    async updateSession(request, call) {
      const paths = pathsOf(request);
      // By compare-and-swap: if another change came in between, the update is made of the session after that change.
      for (;;) {
        const [record] = await sessions.readRecords([request.sessionId], call);
        if (record === undefined || (request.userId !== "" && record.userId !== request.userId))
          throw sessionNotFound();
        const isExpected = request.expectedVersion === 0n || request.expectedVersion === record.version;
        if (!isExpected) {
          throw new SessionError("VERSION_MISMATCH", "the session has another version than expected_version");
        }
        const update = updateOf(record, request, paths);
        const updated = await sessionUpdates.update(record, request.userId, update, call);
        if (updated !== undefined) return { session: sessionMessage(updated) };
      }
    },

    async recordAuthentication(request, call) {
      const { token, authentication, requestId } = request;
      const { tenant } = call.principal;
      const ring = keyRing();
      const verified =
        token === "" ? { sessionId: request.sessionId, digest: undefined } : verifyToken(ring, tenant, token);
      if (verified === undefined) throw sessionNotFound();
      const repeatable = request.rotate && requestId !== "";
      const nextSecret = () =>
        repeatable ? deriveSecret(ring, tenant, token, "authenticate", requestId) : newSecret();
      const secret = request.rotate ? nextSecret() : undefined;
      const stored = await sessionUpdates.authenticate(
        { sessionId: verified.sessionId, userId: request.userId },
        {
          authentication: encodeAuthentication(authentication),
          authenticatedAtMs: authenticatedAtMs(authentication),
          presented: verified.digest,
          next: secret?.digest,
          repeatable,
          actor: request.actor,
        },
        call,
      );
      const newToken = secret ? mintToken(keyRing(), tenant, stored.record.sessionId, secret) : "";
      return { session: sessionMessage(stored), token: newToken };
    },

    async getServerTime({ userId }, call) {
      return { time: timestampFromMs(await sessionUpdates.timeMs(userId, call)) };
    },
  } satisfies SessionServiceImpl;
}

/** @throws SessionError INVALID_REQUEST for a mask that names nothing, or something that cannot be updated or cleared. */
function pathsOf(request: UpdateSessionRequest): ReadonlySet<string> {
  const paths = new Set(request.updateMask?.paths);
  const unknown = [...paths].find((path) => !PATHS.includes(path));
  if (unknown !== undefined || paths.size === 0) {
    throw invalidField("update_mask", `has ${unknown ?? "no path"}; expected some of ${PATHS.join(", ")}`);
  }
  if (paths.has("idle_timeout") && request.idleTimeout === undefined) throw invalidField("idle_timeout", "is not set");
  if (paths.has("absolute_expire_time") && request.absoluteExpireTime === undefined) {
    throw invalidField("absolute_expire_time", "is not set");
  }
  return paths;
}

/** @throws SessionError INVALID_REQUEST if the device of a session without one is to be changed. */
function updateOf(record: SessionRecord, request: UpdateSessionRequest, paths: ReadonlySet<string>): SessionUpdate {
  const session = sessionMessage({ record });
  const { device, labels, ipAddress, userAgent } = session;
  for (const path of ["device_name", "device_last_ip_address"]) {
    if (paths.has(path) && device === undefined) throw invalidField(path, "the session has no device");
  }
  if (device !== undefined && paths.has("device_name")) device.name = request.deviceName;
  if (device !== undefined && paths.has("device_last_ip_address")) device.lastIpAddress = request.deviceLastIpAddress;
  const ipBinding = paths.has("ip_binding") ? ipBindingFlag(request.ipBinding) : record.ipBinding;
  return {
    idleTimeoutMs: paths.has("idle_timeout") ? durationToMs(request.idleTimeout) : undefined,
    absoluteExpiresMs: paths.has("absolute_expire_time") ? wholeMs(request.absoluteExpireTime!) : undefined,
    identity: encodeIdentity({ ipAddress, userAgent }, device),
    labels: encodeLabels(paths.has("labels") ? request.labels : labels),
    flags: recordFlags(ipBinding, device?.type ?? 0, record.isEvictable),
    note: [...paths].join(" "),
    actor: request.actor,
  };
}
