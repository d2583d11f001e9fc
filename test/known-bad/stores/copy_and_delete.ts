// Known bad: regenerates a session by copying it to a new id and deleting the old one. All callers that copy before the
// first delete win. regenerateAgainstRegenerate finds several live sessions where there was one.

import { randomUUID } from "node:crypto";
import type { RedisClientType } from "redis";
import type { Part } from "../../race/subject.ts";

const IDLE_S = 1800;

export function copyAndDelete(
  redis: () => RedisClientType,
): Part<"create" | "regenerate" | "access" | "validate" | "list"> {
  return {
    async create(userId, login = {}) {
      const id = randomUUID();
      await save(redis(), id, { userId, note: login.note ?? "" });
      return { id, bearer: id };
    },

    async regenerate(oldId) {
      const client = redis();
      const session = await client.hGetAll(keyOf(oldId));
      const { userId } = session;
      if (userId === undefined) return undefined;
      const id = randomUUID();
      await save(client, id, { ...session, userId });
      await client.multi().del(keyOf(oldId)).sRem(indexOf(userId), oldId).exec();
      return { id, bearer: id };
    },

    access: async (id) => (await redis().hGet(keyOf(id), "note")) ?? undefined,

    validate: async (id) => (await redis().exists(keyOf(id))) === 1,

    list: async (userId) => await redis().sMembers(indexOf(userId)),
  };
}

async function save(client: RedisClientType, id: string, session: { userId: string } & Record<string, string>) {
  await client.multi().hSet(keyOf(id), session).expire(keyOf(id), IDLE_S).sAdd(indexOf(session.userId), id).exec();
}

function keyOf(id: string): string {
  return `session:${id}`;
}

function indexOf(userId: string): string {
  return `user:${userId}:sessions`;
}
