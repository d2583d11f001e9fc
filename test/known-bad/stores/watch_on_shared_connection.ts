// Known bad: guards the limit by WATCH on the one connection that all requests of the process share. A connection has one set
// of watched keys, and any EXEC on it clears the set. createAgainstLimit finds more sessions than the limit allows.

import { randomUUID } from "node:crypto";
import { WatchError, type RedisClientType } from "redis";
import type { Part } from "../../race/subject.ts";

const IDLE_S = 1800;

export function watchOnSharedConnection(redis: () => RedisClientType): Part<"create" | "validate" | "list"> {
  return {
    async create(userId, login = {}) {
      const client = redis();
      const id = randomUUID();
      const { max, onExceed } = login.limit ?? { max: Infinity, onExceed: "reject" };
      for (;;) {
        await client.watch(indexOf(userId));
        const oldestFirst = await client.zRange(indexOf(userId), 0, -1);
        const excess = Math.max(0, oldestFirst.length + 1 - max);
        if (excess > 0 && onExceed === "reject") {
          await client.unwatch();
          return undefined;
        }
        const transaction = client.multi();
        for (const evicted of oldestFirst.slice(0, excess)) {
          transaction.del(keyOf(evicted));
          transaction.zRem(indexOf(userId), evicted);
        }
        transaction.set(keyOf(id), JSON.stringify({ userId }), { expiration: { type: "EX", value: IDLE_S } });
        transaction.zAdd(indexOf(userId), { score: Date.now(), value: id });
        try {
          await transaction.exec();
          return { id, bearer: id };
        } catch (error) {
          if (!(error instanceof WatchError)) throw error;
        }
      }
    },

    validate: async (id) => (await redis().exists(keyOf(id))) === 1,

    list: async (userId) => await redis().zRange(indexOf(userId), 0, -1),
  };
}

function keyOf(id: string): string {
  return `session:${id}`;
}

function indexOf(userId: string): string {
  return `user:${userId}:sessions`;
}
