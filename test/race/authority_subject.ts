// The race subject that is the real service: every call goes over gRPC to another instance than the one before it.

import { Verdict, OnExceed, type Session } from "../../gen/session/v1/session_pb.ts";
import { CHANGES_CHANNEL } from "../../src/store/keys.ts";
import type { Authorities } from "../helpers/authority.ts";
import { CallError } from "../helpers/grpc_client.ts";
import { inTurn, type Held, type Login, type RaceSubject } from "./subject.ts";

const FENCE_CHANNEL = "races:fence";
/** Of a token's bytes: key id and session_id; the secret follows. */
const SECRET_OFFSET = 2 + 21;

export type AuthoritySubject = RaceSubject & { close(): void };

export async function createAuthoritySubject(authorities: Authorities): Promise<AuthoritySubject> {
  const instance = inTurn(authorities.clients);
  const feed = await openFeed(authorities);

  return {
    async create(userId, login = {}) {
      return told(createSession(userId, login), { SESSION_LIMIT_REACHED: undefined });
    },

    async validate(bearer) {
      const { verdict } = isToken(bearer)
        ? await instance().validateToken({ token: bearer, noTouch: true })
        : await instance().validateSession({ sessionId: bearer });
      return verdict === Verdict.VALID;
    },

    async access(bearer) {
      if (isToken(bearer)) {
        const { session } = await instance().validateToken({ token: bearer });
        return session && noteOf(session);
      }
      const got = instance().getSession({ sessionId: bearer });
      return told(
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
      return told(
        written.then(() => true),
        { SESSION_NOT_FOUND: false },
      );
    },

    async regenerate(bearer) {
      const answer = instance().regenerateSession(isToken(bearer) ? { token: bearer } : { sessionId: bearer });
      return told(answer.then(heldOf), { SESSION_NOT_FOUND: undefined });
    },

    async rotate(token) {
      const rotated = instance().rotateToken({ token });
      return told(
        rotated.then((answer) => ({ token: answer.token })),
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
    ...feed,
  };

  async function createSession(userId: string, { variant, deviceId, note = "", limit }: Login): Promise<Held> {
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
        return heldOf(await instance().createHashSession({ ...common, fields: { note } }));
      case "secure":
        return heldOf(await instance().createSecureSession({ ...common, data: { note } }));
      case "device":
        return heldOf(
          await instance().createDeviceSession({ ...common, device: { deviceId: deviceId! }, data: { note } }),
        );
      default:
        return heldOf(await instance().createSession({ ...common, data: { note } }));
    }
  }
}

/** What every script publishes, straight from the store. */
async function openFeed(authorities: Authorities) {
  const listeners = new Map<string, () => void>();
  const fences = new Map<string, () => void>();
  let lastFence = 0;
  const subscriber = authorities.control.duplicate();
  subscriber.on("error", () => undefined);
  await subscriber.connect();
  await subscriber.subscribe(CHANGES_CHANNEL, (change) => {
    const [, reason, id] = change.split(" ");
    if (reason !== "created" && reason !== "changed") listeners.get(id!)?.();
  });
  await subscriber.subscribe(FENCE_CHANNEL, (fence) => fences.get(fence)!());

  return {
    onEnded: (id: string, listener: () => void) => void listeners.set(id, listener),
    async feedDelivered() {
      const fence = String(lastFence++);
      // The store delivers to one connection in the order of the publications, whatever their channels.
      const delivered = new Promise<void>((resolve) => fences.set(fence, resolve));
      await authorities.control.publish(FENCE_CHANNEL, fence);
      await delivered;
      fences.delete(fence);
    },
    close: () => subscriber.destroy(),
  };
}

function isToken(bearer: string): boolean {
  return bearer.startsWith("sat1_");
}

function heldOf({ session, token }: { session?: Session; token?: string }): Held {
  return { id: session!.sessionId, bearer: token || session!.sessionId };
}

function noteOf(session: Session): string {
  return session.fields["note"] ?? String(session.data?.["note"]);
}

/** The call's value, or what its error stands for; other errors are thrown. */
async function told<T, F>(call: Promise<T>, reasons: Readonly<Record<string, F>>): Promise<T | F> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof CallError && Object.hasOwn(reasons, error.reason ?? "")) return reasons[error.reason!] as F;
    throw error;
  }
}
