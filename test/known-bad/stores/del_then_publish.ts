// Known bad: a session is ended by DEL, and then the end is published. A process that dies in between tells nobody:
// endAgainstFeed shows a session that has ended and a feed that never says so.

import { randomUUID } from "node:crypto";
import type { RedisClientType } from "redis";
import type { Part } from "../../race/subject.ts";

const IDLE_S = 1800;
const ENDED_CHANNEL = "sessions:ended";
const FENCE_CHANNEL = "sessions:fence";

export async function delThenPublish(
  redis: () => RedisClientType,
  subscriber: RedisClientType,
): Promise<Part<"create" | "validate" | "endSteps" | "onEnded" | "feedDelivered">> {
  const listeners = new Map<string, () => void>();
  const fences = new Map<string, () => void>();
  await subscriber.subscribe(ENDED_CHANNEL, (id) => listeners.get(id)?.());
  await subscriber.subscribe(FENCE_CHANNEL, (fence) => fences.get(fence)?.());

  return {
    async create(userId) {
      const id = randomUUID();
      await redis().set(keyOf(id), JSON.stringify({ userId }), { expiration: { type: "EX", value: IDLE_S } });
      return { id, bearer: id };
    },

    validate: async (id) => (await redis().exists(keyOf(id))) === 1,

    endSteps: (id) => [() => redis().del(keyOf(id)), () => redis().publish(ENDED_CHANNEL, id)],

    onEnded: (id, listener) => void listeners.set(id, listener),

    async feedDelivered() {
      const fence = randomUUID();
      const delivered = new Promise<void>((resolve) => fences.set(fence, resolve));
      await redis().publish(FENCE_CHANNEL, fence);
      await delivered;
    },
  };
}

function keyOf(id: string): string {
  return `session:${id}`;
}
