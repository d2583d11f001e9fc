// Known bad: an access reads the session by GET and writes it back by SET with a new expiry, which undoes a delete in between.
// slideAgainstDelete and revokeAgainstValidate find the session alive again.

import { randomUUID } from "node:crypto";
import type { RedisClientType } from "redis";
import type { Part } from "../../race/subject.ts";

const IDLE_S = 1800;
const EXPIRES = { expiration: { type: "EX", value: IDLE_S } } as const;

type Session = { userId: string; note: string; lastAccessedMs: number };

export function getThenSet(redis: () => RedisClientType): Part<"create" | "validate" | "access" | "remove" | "keysOf"> {
  return {
    async create(userId, login = {}) {
      const id = randomUUID();
      const session: Session = { userId, note: login.note ?? "", lastAccessedMs: Date.now() };
      await redis().set(keyOf(id), JSON.stringify(session), EXPIRES);
      return { id, bearer: id };
    },

    validate: async (id) => (await redis().exists(keyOf(id))) === 1,

    async access(id) {
      const client = redis();
      const text = await client.get(keyOf(id));
      if (text === null) return undefined;
      const session = JSON.parse(text) as Session;
      session.lastAccessedMs = Date.now();
      await client.set(keyOf(id), JSON.stringify(session), EXPIRES);
      return session.note;
    },

    remove: async (id) => (await redis().del(keyOf(id))) === 1,

    keysOf: async (id) => ((await redis().exists(keyOf(id))) === 1 ? [keyOf(id)] : []),
  };
}

function keyOf(id: string): string {
  return `session:${id}`;
}
