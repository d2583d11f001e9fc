// The clients of node-redis for the store: their options, and what is asked of a node before it is used.

import { createClient, RESP_TYPES } from "redis";
import { SILENCE_MS } from "./ping.ts";
import { readPassword, readTlsOptions } from "./store_files.ts";
import type { NodeAddress, StoreAccess } from "./store_url.ts";

/** A reply of the store: bulk strings are Buffers, a simple status is a string, arrays nest. */
export type StoreReply = Buffer | number | string | null | StoreReply[];
export type StoreArguments = readonly (string | Buffer)[];

/** The commands that may wait for their replies, so that a hung store does not use up the memory of the process. */
export const MAX_PENDING = 10_000;
export const CONNECT_TIMEOUT_MS = 1_500;

export type StoreClient = ReturnType<typeof openClient>;

/**
 * Makes a client of node-redis with the options of every connection to the store; it never reconnects.
 * @throws Error if one of access.files cannot be read.
 */
export function openClient(address: NodeAddress, access: StoreAccess, maxPending: number = MAX_PENDING) {
  const shared = { connectTimeout: CONNECT_TIMEOUT_MS, socketTimeout: SILENCE_MS, reconnectStrategy: false as const };
  return createClient({
    RESP: 2,
    socket:
      address.host === undefined
        ? { path: address.path, ...shared }
        : { host: address.host, port: address.port, ...readTlsOptions(address, access), ...shared },
    username: access.username,
    password: readPassword(access),
    database: access.database,
    disableOfflineQueue: true,
    disableClientInfo: true,
    maintNotifications: "disabled",
    // More than our own bound, so that pings can be sent when that is reached.
    commandsQueueMaxLength: maxPending + 16,
    commandOptions: { timeout: 0, typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } },
  });
}

/** Runs `use` on a connection of its own. Rejects what is pending after `timeoutMs`. */
export async function withClient<Result>(
  address: NodeAddress,
  access: StoreAccess,
  timeoutMs: number,
  use: (client: StoreClient) => Promise<Result>,
): Promise<Result> {
  const client = openClient(address, access);
  client.on("error", () => undefined);
  const timer = setTimeout(() => client.destroy(), timeoutMs);
  try {
    await client.connect();
    return await use(client);
  } finally {
    clearTimeout(timer);
    client.destroy();
  }
}

/** Returns whether a node is a primary: asks by ROLE or, where that is not allowed, by INFO. If both are refused, the fence has to show it. */
export async function isPrimary(client: StoreClient): Promise<boolean> {
  const role = await client.sendCommand<[Buffer | string]>(["ROLE"]).then(
    ([name]) => String(name),
    async () => {
      const info = await client.sendCommand<Buffer | string>(["INFO", "replication"]).catch(() => "");
      return /^role:(\w+)/m.exec(String(info))?.[1];
    },
  );
  return role === undefined || role === "master";
}
