// The store that comes along when none is configured: a valkey-server or redis-server of our own on a private socket.
//
// Its data is in the data directory and every acknowledged write is on disk, so sessions survive restarts of both.

import { accessSync, constants } from "node:fs";
import { mkdir, realpath, rm } from "node:fs/promises";
import { delimiter, isAbsolute, join } from "node:path";
import type { Logger } from "pino";
import { superviseStore, type StoreProgram } from "./store_process.ts";
import { createRuntimeDirectory, endOrphan, lockDataDirectory } from "./data_directory.ts";
import type { StoreUrl } from "../connection/store_url.ts";

export type EmbeddedStore = {
  readonly url: StoreUrl;
  readonly kind: "valkey-server" | "redis-server" | "js-redis-server";
  readonly description: string;
  /** Ends the store, its data safely on disk, and frees the data directory. */
  stop(): Promise<void>;
};

export type EmbeddedStoreOptions = {
  readonly dataDir: string;
  readonly log: Logger;
  /** Where programs are looked for, as in the variable PATH, which is the default. */
  readonly path?: string;
};

/**
 * Starts the store and resolves once it answers.
 * @throws Error when the data directory is in use, when the store does not start, and when there is none to start.
 */
export async function startEmbeddedStore(options: EmbeddedStoreOptions): Promise<EmbeddedStore> {
  const { log, path = process.env["PATH"] ?? "" } = options;
  await mkdir(options.dataDir, { recursive: true, mode: 0o700 });
  const dataDir = await realpath(options.dataDir);
  const runtimeDir = await createRuntimeDirectory(dataDir);
  const lock = await lockDataDirectory(runtimeDir, dataDir);
  try {
    const socketPath = join(runtimeDir, "store.sock");
    await endOrphan(socketPath, log);
    const program = await chooseProgram(path, dataDir, socketPath, log);
    const child = await superviseStore(program, socketPath, log);
    let stopped: Promise<void> | undefined;
    return {
      url: {
        kind: "single",
        tls: false,
        username: undefined,
        password: undefined,
        database: 0,
        address: { path: socketPath },
      },
      kind: program.kind,
      description: program.description,
      stop: () =>
        (stopped ??= child.stop().finally(async () => {
          await rm(socketPath, { force: true });
          await lock.release();
        })),
    };
  } catch (error) {
    await lock.release();
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
  log.warn(
    "neither valkey-server nor redis-server is installed, so js-redis-server is used. " +
      "It is for trying out: sessions are lost when this process stops",
  );
  return { kind: "js-redis-server", description: "js-redis-server, in memory, for trying out", args: [socketPath] };
}

function serverArguments(storeDir: string, socketPath: string): string[] {
  const settings: Record<string, string> = {
    // No TCP at all: whoever can open the socket's directory is this user.
    port: "0",
    unixsocket: socketPath,
    unixsocketperm: "700",
    dir: storeDir,
    daemonize: "no",
    // An acknowledged write is on disk, and nothing is ever evicted: a session ends by its deadline or by a revocation.
    appendonly: "yes",
    appendfsync: "always",
    save: "",
    "maxmemory-policy": "noeviction",
  };
  return Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
}

function findOnPath(program: string, path: string): string | undefined {
  for (const directory of path.split(delimiter)) {
    // A relative entry would run what lies in the working directory.
    if (!isAbsolute(directory)) continue;
    const file = join(directory, program);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // Not there; the next directory may have it.
    }
  }
  return undefined;
}
