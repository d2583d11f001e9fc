// A process of its own that runs js-redis-server on a Unix socket, for as long as the process that forked it lives.

import { rm } from "node:fs/promises";
import { EXIT_NOT_INSTALLED } from "./store_process.ts";

const socketPath = process.argv[2];
if (socketPath === undefined || !process.connected) throw new Error("this is started by the embedded store only");
process.on("disconnect", () => process.exit(0));
process.on("SIGTERM", () => process.exit(0));

const server = await load();
await rm(socketPath, { force: true });
server.listen(socketPath);

async function load() {
  try {
    const { Resp2Server, RedisServerState, createRedisCommandExecutor, resolveCompatibilityProfile } =
      await import("js-redis-server/core");
    const compatibility = resolveCompatibilityProfile(undefined);
    const state = new RedisServerState({ databaseCount: 1, compatibility });
    // Its own listen() takes a port only, and opens that to the network.
    return new Resp2Server({ server: state, executor: createRedisCommandExecutor({ compatibility }) }).server;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ERR_MODULE_NOT_FOUND") process.exit(EXIT_NOT_INSTALLED);
    throw error;
  }
}
