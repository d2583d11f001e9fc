// Runs js-redis-server on a Unix socket in a process of its own, until the process that forked it exits.

import { rm } from "node:fs/promises";
import {
  createRedisCommandExecutor,
  RedisServerState,
  resolveCompatibilityProfile,
  Resp2Server,
} from "js-redis-server/core";

const socketPath = process.argv[2];
if (socketPath === undefined || !process.connected) throw new Error("only the embedded store starts this module");
process.on("disconnect", () => process.exit(0));
process.on("SIGTERM", () => process.exit(0));

const compatibility = resolveCompatibilityProfile(undefined);
const state = new RedisServerState({ databaseCount: 1, compatibility });
await rm(socketPath, { force: true });
// The package's own listen() takes only a port, and binds it on every network interface.
new Resp2Server({ server: state, executor: createRedisCommandExecutor({ compatibility }) }).server.listen(socketPath);
