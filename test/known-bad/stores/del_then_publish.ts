// Known bad: ends a session by DEL and publishes the end after that. A process that dies in between publishes nothing.
// endAgainstPublication finds a session whose end was never published.

import { randomUUID } from "node:crypto";
import type { RedisClientType } from "redis";
import type { Part } from "../../race/subject.ts";

const IDLE_S = 1800;
const ENDED_CHANNEL = "sessions:ended";
const MARKER_CHANNEL = "sessions:marker";

export async function delThenPublish(
  redis: () => RedisClientType,
  subscriber: RedisClientType,
): Promise<Part<"create" | "validate" | "endSteps" | "onEnded" | "publicationsDelivered">> {
  const listeners = new Map<string, () => void>();
  const markers = new Map<string, () => void>();
  await subscriber.subscribe(ENDED_CHANNEL, (id) => listeners.get(id)?.());
  await subscriber.subscribe(MARKER_CHANNEL, (marker) => markers.get(marker)?.());

  return {
    async create(userId) {
      const id = randomUUID();
      await redis().set(keyOf(id), JSON.stringify({ userId }), { expiration: { type: "EX", value: IDLE_S } });
      return { id, bearer: id };
    },

    validate: async (id) => (await redis().exists(keyOf(id))) === 1,

    endSteps: (id) => [() => redis().del(keyOf(id)), () => redis().publish(ENDED_CHANNEL, id)],

    onEnded: (id, listener) => void listeners.set(id, listener),

    async publicationsDelivered() {
      const marker = randomUUID();
      const delivered = new Promise<void>((resolve) => markers.set(marker, resolve));
      await redis().publish(MARKER_CHANNEL, marker);
      await delivered;
    },
  };
}

function keyOf(id: string): string {
  return `session:${id}`;
}
