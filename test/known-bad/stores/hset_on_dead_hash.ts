// Known bad: writes a field by HSET after checking that the session exists. If it ends in between, HSET creates a new hash that
// never expires. fieldWriteAgainstEnd finds the key that came back.

import { randomUUID } from "node:crypto";
import type { RedisClientType } from "redis";
import type { Part } from "../../race/subject.ts";

const IDLE_S = 1800;

export function hsetOnDeadHash(
  redis: () => RedisClientType,
): Part<"create" | "setField" | "validate" | "remove" | "expire" | "keysOf"> {
  return {
    async create(userId, login = {}) {
      const id = randomUUID();
      await redis()
        .multi()
        .hSet(keyOf(id), { userId, note: login.note ?? "" })
        .expire(keyOf(id), IDLE_S)
        .exec();
      return { id, bearer: id };
    },

    async setField(id, name, value) {
      const client = redis();
      if ((await client.exists(keyOf(id))) === 0) return false;
      await client.hSet(keyOf(id), name, value);
      return true;
    },

    validate: async (id) => (await redis().hExists(keyOf(id), "userId")) === 1,

    remove: async (id) => (await redis().del(keyOf(id))) === 1,

    expire: async (id) => void (await redis().pExpireAt(keyOf(id), Date.now() - 1)),

    keysOf: async (id) => ((await redis().exists(keyOf(id))) === 1 ? [keyOf(id)] : []),
  };
}

function keyOf(id: string): string {
  return `session:${id}`;
}
