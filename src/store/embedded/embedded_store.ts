// The store that is used when none is configured: a valkey-server or redis-server that this service runs on a private socket.
//
// Its data is in the data directory and every acknowledged write is on disk, so sessions survive restarts of either.

import { accessSync, constants } from "node:fs";
import { mkdir, realpath, rm } from "node:fs/promises";
import { delimiter, isAbsolute, join } from "node:path";
import type { Logger } from "pino";
import { startSupervisedStore, type StoreProgram } from "./store_process.ts";
import { createRuntimeDirectory, lockDataDirectory, NO_CREDENTIALS, stopOrphan } from "./data_directory.ts";
import type { StoreUrl } from "../connection/store_url.ts";

export type EmbeddedStore = {
  readonly url: StoreUrl;
  readonly kind: StoreProgram["kind"];
  readonly description: string;
  /** Stops the store, with its data on disk, and releases the data directory. */
  stop(): Promise<void>;
};

export type EmbeddedStoreOptions = {
  readonly dataDir: string;
  readonly log: Logger;
  /** The directories in which the programs are searched, in the form of the variable PATH. Default: PATH. */
  readonly path?: string;
};

/**
 * Starts the store and resolves when it accepts commands.
 * @throws Error if the data directory is in use, if the store does not start, or if no program is installed.
 */
export async function startEmbeddedStore(options: EmbeddedStoreOptions): Promise<EmbeddedStore> {
  const { log, path = process.env["PATH"] ?? "" } = options;
  await mkdir(options.dataDir, { recursive: true, mode: 0o700 });
  const dataDir = await realpath(options.dataDir);
  const runtimeDir = await createRuntimeDirectory(dataDir);
  const releaseLock = await lockDataDirectory(runtimeDir, dataDir);
  try {
    const socketPath = join(runtimeDir, "store.sock");
    await stopOrphan(socketPath, log);
    const program = await chooseProgram(path, dataDir, socketPath, log);
    const child = await startSupervisedStore(program, socketPath, log);
    let stopped: Promise<void> | undefined;
    return {
      url: { kind: "single", ...NO_CREDENTIALS, address: { path: socketPath } },
      kind: program.kind,
      description: program.description,
      stop: () =>
        (stopped ??= child.stop().finally(async () => {
          await rm(socketPath, { force: true });
          releaseLock();
        })),
    };
  } catch (error) {
    releaseLock();
    throw error;
  }
}

async function chooseProgram(path: string, dataDir: string, socketPath: string, log: Logger): Promise<StoreProgram> {
  for (const kind of ["valkey-server", "redis-server"] as const) {
    const file = findOnPath(kind, path);
    if (file === undefined) continue;
    const storeDir = join(dataDir, "store");
    await mkdir(storeDir, { recursive: true, mode: 0o700 });
    return { kind, description: `${kind} in ${storeDir}`, file, args: serverArguments(storeDir, socketPath) };
  }
  try {
    import.meta.resolve("js-redis-server/core");
  } catch (cause) {
    const message = "there is no store: install valkey-server or redis-server, or set SA_STORE_URL to one elsewhere";
    throw new Error(message, { cause });
  }
  log.warn(
    "neither valkey-server nor redis-server is installed, so js-redis-server is used, which is for trying out only: " +
      "sessions are lost when this process stops",
  );
  return { kind: "js-redis-server", description: "js-redis-server, in memory, for trying out", args: [socketPath] };
}

function serverArguments(storeDir: string, socketPath: string): string[] {
  const settings: Record<string, string> = {
    // No TCP: only this user can enter the socket's directory.
    port: "0",
    unixsocket: socketPath,
    unixsocketperm: "700",
    dir: storeDir,
    daemonize: "no",
    // An acknowledged write is on disk, and nothing is evicted: a session ends only at its deadline or by a revocation.
    appendonly: "yes",
    appendfsync: "always",
    save: "",
    "maxmemory-policy": "noeviction",
  };
  return Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
}

function findOnPath(program: string, path: string): string | undefined {
  for (const directory of path.split(delimiter)) {
    // A relative entry could run a file of the working directory.
    if (!isAbsolute(directory)) continue;
    const file = join(directory, program);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // This directory does not have the program; the next one may.
    }
  }
  return undefined;
}
