// The world of a history: a store, three instances behind proxies that cause faults, and a recorder of published changes.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { loadConfig } from "../../src/config/config.ts";
import { decodePosition } from "../../src/domain/position.ts";
import { startServer, type RunningServer } from "../../src/server.ts";
import { createStoreConnection } from "../../src/store/connection/connection.ts";
import { CHANGES_CHANNEL, partitionKeys } from "../../src/store/keys.ts";
import { createScripts } from "../../src/store/scripts.ts";
import { createSweepStore } from "../../src/store/sweep.ts";
import { createLogger } from "../../src/ops/logger.ts";
import { parseTokenKeys } from "../../src/auth/token_key_file.ts";
import { startAuthorities } from "../helpers/authority.ts";
import { createAuthorityClient, type AuthorityClient } from "../helpers/grpc_client.ts";
import { startTcpProxy, type TcpProxy } from "../helpers/tcp_proxy.ts";
import { parseKnown, type KnownChange } from "./history.ts";

export type Instance = {
  server: RunningServer;
  client: AuthorityClient;
  /** The proxy between the instance and the store. */
  readonly store: TcpProxy;
  /** The proxy between watchers and the instance. */
  readonly front: TcpProxy;
  alive: boolean;
};

export type World = Awaited<ReturnType<typeof startWorld>>;

export const INSTANCES = 3;

/** If `persistent`, the store keeps every acknowledged write when it is killed; otherwise it loses all data. */
export async function startWorld({ persistent }: { persistent: boolean }) {
  const redisArgs = persistent ? ["--appendonly", "yes", "--appendfsync", "always"] : [];
  const authorities = await startAuthorities({ instances: 0, redisArgs });
  const { redis, control } = authorities;
  const settings = (storeUrl: string) =>
    loadConfig({
      SA_STORE_URL: storeUrl,
      SA_GRPC_LISTEN: "127.0.0.1:0",
      SA_HTTP_LISTEN: "127.0.0.1:0",
      SA_DATA_DIR: redis.dataDir,
      SA_LOG_LEVEL: "fatal",
      SA_DRAIN_TIMEOUT: "1s",
    });
  const log = createLogger(settings(redis.url));

  async function startInstance(store: TcpProxy): Promise<Pick<Instance, "server" | "client">> {
    const server = await startServer(settings(`unix://${store.address}`), log);
    return { server, client: createAuthorityClient(server.addresses.grpc!) };
  }

  const instances: Instance[] = [];
  for (let i = 0; i < INSTANCES; i++) {
    const store = await startTcpProxy(() => ({ path: redis.socketPath! }), { path: join(redis.dataDir, `p${i}.sock`) });
    const { server, client } = await startInstance(store);
    const front = await startTcpProxy(() => {
      const [host, port] = instances[i]!.server.addresses.grpc!.split(":") as [string, string];
      return { host, port: Number(port) };
    });
    instances.push({ server, client, store, front, alive: true });
  }

  // Records what the store publishes, over a connection that only a restart of the store affects.
  const published: KnownChange[] = [];
  const recorder = control.duplicate();
  recorder.on("error", () => undefined);
  await recorder.connect();
  await recorder.subscribe(CHANGES_CHANNEL, (change) => void published.push(parseKnown(change)));

  const connection = createStoreConnection({ url: settings(redis.url).storeUrl!, log });
  await connection.whenReady({ deadlineMs: performance.now() + 5000, signal: AbortSignal.timeout(5000) });
  const config = settings(redis.url);
  const sweep = createSweepStore({
    connection,
    scripts: createScripts({ connection, shebang: true }),
    settings: config,
  });
  const ring = parseTokenKeys(readFileSync(config.tokenKeysFile, "utf8"));

  let losses = 0;

  return {
    authorities,
    persistent,
    instances,
    published,
    ring,
    decode: (position: string) => decodePosition(ring, "default", position),

    /** Returns how often the store has lost its data. */
    losses: () => losses,

    /** Kills the store with SIGKILL and starts a new process. */
    async restartStore(): Promise<void> {
      if (!persistent) losses++;
      await redis.restart();
    },

    /** Sweeps one partition now. */
    async sweep(partition: number): Promise<void> {
      await sweep.expire(partition, 100, {
        deadlineMs: performance.now() + 2000,
        signal: AbortSignal.timeout(2000),
      });
    },

    async readLog(partition: number): Promise<KnownChange[]> {
      const entries = await control.xRange(partitionKeys(partition)[1], "-", "+");
      return (entries ?? []).map((entry) => parseKnown(entry!.message["c"]!));
    },

    async trim(partition: number, keep: number): Promise<void> {
      await control.sendCommand(["XTRIM", partitionKeys(partition)[1], "MAXLEN", String(keep)]);
    },

    /** Looks like SIGKILL from outside: every connection breaks, and calls under way get no response. */
    async killInstance(i: number): Promise<void> {
      const instance = instances[i]!;
      instance.alive = false;
      for (const proxy of [instance.front, instance.store]) {
        proxy.refuse(true);
        proxy.cut();
      }
      instance.client.close();
      await instance.server.close();
    },

    async reviveInstance(i: number): Promise<void> {
      const instance = instances[i]!;
      instance.store.refuse(false);
      Object.assign(instance, await startInstance(instance.store));
      instance.front.refuse(false);
      instance.alive = true;
    },

    async close(): Promise<void> {
      for (const { client, server, store, front } of instances) {
        client.close();
        await front.stop();
        await server.close();
        await store.stop();
      }
      await connection.close();
      recorder.destroy();
      await authorities.close();
    },
  };
}
