// Known bad: one map from device to session for all users, read before it is written. twoUsersOnOneDevice finds a login that
// ends another user's session, deviceLoginAgainstDeviceLogin finds two sessions of one user on one device.

import { randomUUID } from "node:crypto";
import type { RedisClientType } from "redis";
import type { Part } from "../../race/subject.ts";

const IDLE_S = 1800;
const EXPIRES = { expiration: { type: "EX", value: IDLE_S } } as const;

export function deviceMapWithoutOwner(redis: () => RedisClientType): Part<"create" | "validate" | "listDevices"> {
  return {
    async create(userId, { deviceId = "" } = {}) {
      const client = redis();
      const id = randomUUID();
      const replaced = await client.get(deviceKeyOf(deviceId));
      const transaction = client.multi();
      if (replaced !== null) transaction.del(keyOf(replaced));
      transaction.set(keyOf(id), JSON.stringify({ userId, deviceId }), EXPIRES);
      transaction.set(deviceKeyOf(deviceId), id, EXPIRES);
      transaction.sAdd(devicesOf(userId), deviceId);
      await transaction.exec();
      return { id, bearer: id };
    },

    validate: async (id) => (await redis().exists(keyOf(id))) === 1,

    async listDevices(userId) {
      const client = redis();
      const deviceIds = await client.sMembers(devicesOf(userId));
      const ids = await Promise.all(deviceIds.map((deviceId) => client.get(deviceKeyOf(deviceId))));
      return ids.filter((id) => id !== null);
    },
  };
}

function keyOf(id: string): string {
  return `session:${id}`;
}

function deviceKeyOf(deviceId: string): string {
  return `device:${deviceId}`;
}

function devicesOf(userId: string): string {
  return `user:${userId}:devices`;
}
