// Known bad: writes the session by SET and adds it to the user's index after that. A revoke-all in between does not see the
// session. revokeAllAgainstCreate finds a live session that no list contains, out of reach of the next revoke-all.

import { randomUUID } from "node:crypto";
import type { RedisClientType } from "redis";
import type { Part } from "../../race/subject.ts";

const IDLE_S = 1800;

export function saddAfterSet(redis: () => RedisClientType): Part<"create" | "validate" | "revokeAll" | "list"> {
  return {
    async create(userId) {
      const client = redis();
      const id = randomUUID();
      await client.set(keyOf(id), JSON.stringify({ userId }), { expiration: { type: "EX", value: IDLE_S } });
      await client.sAdd(indexOf(userId), id);
      return { id, bearer: id };
    },

    validate: async (id) => (await redis().exists(keyOf(id))) === 1,

    async revokeAll(userId) {
      const client = redis();
      const ids = await client.sMembers(indexOf(userId));
      await client.del([...ids.map(keyOf), indexOf(userId)]);
      return ids.length;
    },

    async list(userId) {
      const client = redis();
      const ids = await client.sMembers(indexOf(userId));
      const alive = await Promise.all(ids.map((id) => client.exists(keyOf(id))));
      return ids.filter((_, n) => alive[n] === 1);
    },
  };
}

function keyOf(id: string): string {
  return `session:${id}`;
}

function indexOf(userId: string): string {
  return `user:${userId}:sessions`;
}
