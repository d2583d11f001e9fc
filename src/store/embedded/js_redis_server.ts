// Runs js-redis-server on a Unix socket in a process of its own, until the process that forked it exits.

import { rm } from "node:fs/promises";
import { EXIT_NOT_INSTALLED } from "./exit_codes.ts";

const socketPath = process.argv[2];
if (socketPath === undefined || !process.connected) throw new Error("only the embedded store starts this module");
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
    // The package's own listen() takes only a port, and binds it on every network interface.
    return new Resp2Server({ server: state, executor: createRedisCommandExecutor({ compatibility }) }).server;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ERR_MODULE_NOT_FOUND") process.exit(EXIT_NOT_INSTALLED);
    throw error;
  }
}
