// The real service as the subject of the race suite. Consecutive calls go to different instances, over gRPC.

import { Verdict, OnExceed, type Session } from "../../gen/session/v1/session_pb.ts";
import { CHANGES_CHANNEL } from "../../src/store/keys.ts";
import type { Authorities } from "../helpers/authority.ts";
import { CallError } from "../helpers/grpc_client.ts";
import { inTurn, type HeldSession, type Login, type RaceSubject } from "./subject.ts";

const MARKER_CHANNEL = "races:marker";
/** Where the secret begins in a token's bytes: after the key id and the session_id. */
const SECRET_OFFSET = 2 + 21;

export type AuthoritySubject = RaceSubject & { close(): void };

export async function createAuthoritySubject(authorities: Authorities): Promise<AuthoritySubject> {
  const instance = inTurn(authorities.clients);
  const publications = await subscribeToChanges(authorities);

  return {
    async create(userId, login = {}) {
      return reasonAsValue(createSession(userId, login), { SESSION_LIMIT_REACHED: undefined });
    },

    async validate(bearer) {
      const { verdict } = isToken(bearer)
        ? await instance().validateToken({ token: bearer, touch: false })
        : await instance().validateSession({ sessionId: bearer });
      return verdict === Verdict.VALID;
    },

    async access(bearer) {
      if (isToken(bearer)) {
        const { session } = await instance().validateToken({ token: bearer });
        return session && noteOf(session);
      }
      const got = instance().getSession({ sessionId: bearer });
      return reasonAsValue(
        got.then(({ session }) => noteOf(session!)),
        { SESSION_NOT_FOUND: undefined },
      );
    },

    remove: async (sessionId) => (await instance().deleteSession({ sessionId })).deleted,
    expire: (sessionId) => authorities.expireNow(sessionId),
    revokeAll: async (userId) => (await instance().deleteUserSessions({ userId })).deletedCount,
    list: async (userId) => (await instance().listUserSessions({ userId })).sessions.map(({ sessionId }) => sessionId),
    listDevices: async (userId) =>
      (await instance().listUserDevices({ userId })).sessions.map(({ sessionId }) => sessionId),

    async setField(sessionId, name, value) {
      const written = instance().setSessionFields({ sessionId, fields: { [name]: value } });
      return reasonAsValue(
        written.then(() => true),
        { SESSION_NOT_FOUND: false },
      );
    },

    async regenerate(bearer) {
      const regenerated = instance().regenerateSession(isToken(bearer) ? { token: bearer } : { sessionId: bearer });
      return reasonAsValue(regenerated.then(heldSessionOf), { SESSION_NOT_FOUND: undefined });
    },

    async rotate(token) {
      const rotated = instance().rotateToken({ token });
      return reasonAsValue(
        rotated.then(({ token: next }) => ({ token: next })),
        { ROTATED_CONCURRENTLY: "rotated by another call" as const, SESSION_NOT_FOUND: "gone" as const },
      );
    },

    revokeToken: async (token) => (await instance().revokeToken({ token })).deleted,

    forge(token) {
      const bytes = Buffer.from(token.slice("sat1_".length), "base64url");
      bytes[SECRET_OFFSET]! ^= 1;
      return `sat1_${bytes.toString("base64url")}`;
    },

    keysOf: (sessionId) => authorities.keysOfSession(sessionId),
    endSteps: (sessionId) => [() => instance().deleteSession({ sessionId })],
    ...publications,
  };

  async function createSession(userId: string, { variant, deviceId, note = "", limit }: Login): Promise<HeldSession> {
    const common = {
      userId,
      ...(limit && {
        limit: {
          maxSessions: limit.max,
          onExceed: limit.onExceed === "evict" ? OnExceed.EVICT_OLDEST : OnExceed.REJECT,
        },
      }),
    };
    switch (variant) {
      case "hash":
        return heldSessionOf(await instance().createHashSession({ ...common, fields: { note } }));
      case "secure":
        return heldSessionOf(await instance().createSecureSession({ ...common, data: { note } }));
      case "device":
        return heldSessionOf(
          await instance().createDeviceSession({ ...common, device: { deviceId: deviceId! }, data: { note } }),
        );
      default:
        return heldSessionOf(await instance().createSession({ ...common, data: { note } }));
    }
  }
}

/** Subscribes to what the scripts publish, directly at the store. */
async function subscribeToChanges(authorities: Authorities) {
  const listeners = new Map<string, () => void>();
  const markers = new Map<string, () => void>();
  let lastMarker = 0;
  const subscriber = authorities.control.duplicate();
  subscriber.on("error", () => undefined);
  await subscriber.connect();
  await subscriber.subscribe(CHANGES_CHANNEL, (change) => {
    const [, reason, id] = change.split(" ");
    if (reason !== "created" && reason !== "changed") listeners.get(id!)?.();
  });
  await subscriber.subscribe(MARKER_CHANNEL, (marker) => markers.get(marker)!());

  return {
    onEnded: (id: string, listener: () => void) => void listeners.set(id, listener),
    async publicationsDelivered() {
      const marker = String(lastMarker++);
      // The store delivers to one connection in the order of publication, across all channels.
      const delivered = new Promise<void>((resolve) => markers.set(marker, resolve));
      await authorities.control.publish(MARKER_CHANNEL, marker);
      await delivered;
      markers.delete(marker);
    },
    close: () => subscriber.destroy(),
  };
}

function isToken(bearer: string): boolean {
  return bearer.startsWith("sat1_");
}

function heldSessionOf({ session, token }: { session?: Session; token?: string }): HeldSession {
  return { id: session!.sessionId, bearer: token || session!.sessionId };
}

function noteOf(session: Session): string {
  return session.fields["note"] ?? String(session.data?.["note"]);
}

/** Returns the call's value, or the value that `reasons` has for its error. @throws any other error. */
async function reasonAsValue<T, F>(call: Promise<T>, reasons: Readonly<Record<string, F>>): Promise<T | F> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof CallError && Object.hasOwn(reasons, error.reason ?? "")) return reasons[error.reason!] as F;
    throw error;
  }
}
