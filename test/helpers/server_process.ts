// Runs an instance of the service in a process of its own, which can be killed, and which reports its CPU and memory.

import { fork } from "node:child_process";
import { once } from "node:events";
import { createLogger } from "../../src/ops/logger.ts";
import { loadConfig } from "../../src/config/config.ts";
import { startServer } from "../../src/server.ts";
import type { RedisServer } from "./redis_server.ts";

/** CPU time since the start of a process, and its memory now, after a garbage collection if `--expose-gc` allows one. */
export type Usage = { readonly cpuMicros: number; readonly heapBytes: number; readonly rssBytes: number };

export type ServerProcess = {
  /** host:port of its gRPC listener. */
  readonly address: string;
  readonly pid: number;
  usage(): Promise<Usage>;
  /** Sends a message of the module's own. */
  send(message: string): void;
  /** Sends a message and resolves to the response. */
  ask(message: string): Promise<unknown>;
  /** Kills the process with SIGKILL. Does nothing if it has exited. */
  kill(): Promise<void>;
};

/** Starts an instance on a store; `env` holds further SA_* variables. */
export function startServerProcess(
  redis: Pick<RedisServer, "url" | "dataDir">,
  env: Record<string, string> = {},
  execArgv: readonly string[] = [],
): Promise<ServerProcess> {
  const variables = {
    SA_STORE_URL: redis.url,
    SA_DATA_DIR: redis.dataDir,
    SA_GRPC_LISTEN: "127.0.0.1:0",
    SA_HTTP_LISTEN: "off",
    SA_LOG_LEVEL: "fatal",
    ...env,
  };
  return startMeasured(import.meta.filename, ["--serve"], variables, execArgv);
}

/** Runs a module that calls `serveUsage` with its address. */
export async function startMeasured(
  module: string,
  args: readonly string[],
  env: Record<string, string> = {},
  execArgv: readonly string[] = [],
): Promise<ServerProcess> {
  const child = fork(module, args, { env: { ...process.env, ...env }, execArgv: [...execArgv] });
  process.once("exit", () => child.kill("SIGKILL"));
  const ended = once(child, "exit").then(() => {
    throw new Error("the server's process ended");
  });
  ended.catch(() => undefined);
  const reply = async () => ((await Promise.race([once(child, "message"), ended])) as unknown[])[0];
  const address = (await reply()) as string;
  async function ask(message: string): Promise<unknown> {
    child.send(message);
    return await reply();
  }
  return {
    address,
    pid: child.pid!,
    usage: async () => (await ask("usage")) as Usage,
    send: (message) => void child.send(message),
    ask,
    async kill() {
      child.kill("SIGKILL");
      await ended.catch(() => undefined);
    },
  };
}

/** In the child: reports the address, responds to "usage", and passes every other message to `onMessage`. */
export function serveUsage(address: string, onMessage?: (message: string) => void): void {
  process.on("message", (message: string) => {
    if (message !== "usage") return onMessage?.(message);
    const { user, system } = process.cpuUsage();
    // Twice: what a finalizer releases is collected the second time.
    globalThis.gc?.();
    globalThis.gc?.();
    const { heapUsed, rss } = process.memoryUsage();
    const usage: Usage = { cpuMicros: user + system, heapBytes: heapUsed, rssBytes: rss };
    process.send!(usage);
  });
  process.on("disconnect", () => process.exit());
  process.send!(address);
}

if (process.argv[2] === "--serve" && process.argv[1] === import.meta.filename) {
  const config = loadConfig(process.env);
  const server = await startServer(config, createLogger(config));
  serveUsage(server.addresses.grpc!, () => void process.send!(server.addresses.http));
}
