// One service per data directory: a lock that a killed process cannot leave behind, and the end of the store it left.

import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { lstat, mkdir, rename, rm } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { openClient } from "./connection_link.ts";

const NO_CREDENTIALS = { tls: false, username: undefined, password: undefined, database: 0 };
/** The kernel's limit is 108 with the final zero on Linux and 104 elsewhere. */
const MAX_SOCKET_PATH_BYTES = 100;
const LONGEST_SOCKET_NAME = "lock.sock.0123456789ab";
const ORPHAN_TIMEOUT_MS = 10_000;

/**
 * The directory of the data directory's sockets, which only this user can enter. Not inside the data directory: the path
 * of a socket must be short. Its name follows from the data directory, so that the next start finds what this one left.
 */
export async function createRuntimeDirectory(dataDir: string): Promise<string> {
  const uid = process.getuid?.() ?? 0;
  const name = `session-authority-${uid}-${createHash("sha256").update(dataDir).digest("hex").slice(0, 12)}`;
  const fits = (path: string): boolean => Buffer.byteLength(join(path, LONGEST_SOCKET_NAME)) <= MAX_SOCKET_PATH_BYTES;
  const directory = [tmpdir(), "/tmp"].map((parent) => join(parent, name)).find(fits);
  if (directory === undefined) throw new Error("the path of the temporary directory is too long for a Unix socket");
  await mkdir(directory, { recursive: true, mode: 0o700 });
  // The parent is open to all users: somebody else may have made it first.
  const status = await lstat(directory);
  if (!status.isDirectory() || status.uid !== uid || (status.mode & 0o077) !== 0) {
    throw new Error(`${directory} has to be a directory that belongs to this user and to no one else`);
  }
  return directory;
}

export type DataDirectoryLock = { release(): Promise<void> };

/**
 * Holds the data directory by listening on a socket: the kernel ends that with the process, however it dies.
 * @throws Error when another process holds it.
 */
export async function lockDataDirectory(runtimeDir: string, dataDir: string): Promise<DataDirectoryLock> {
  const path = join(runtimeDir, "lock.sock");
  for (let attempt = 0; attempt < 5; attempt++) {
    const server = await listenOn(path);
    if (server !== undefined) {
      server.unref();
      return {
        release: () =>
          new Promise((resolve) => {
            // Closing removes the socket's file as well.
            server.close(() => resolve());
          }),
      };
    }
    // The file is moved away before it is judged: of two processes that find a dead lock only one can take it, and one
    // that took a live lock by mistake puts it back.
    const taken = `${path}.${randomBytes(6).toString("hex")}`;
    const holder = await holderOf(path);
    if (holder !== undefined) throw inUse(dataDir, holder);
    try {
      await rename(path, taken);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") continue;
      throw error;
    }
    const rival = await holderOf(taken);
    if (rival !== undefined) {
      await rename(taken, path);
      throw inUse(dataDir, rival);
    }
    await rm(taken, { force: true });
  }
  throw inUse(dataDir, "unknown");
}

function inUse(dataDir: string, holder: string): Error {
  return new Error(`the data directory ${dataDir} is in use by another session authority (process ${holder})`);
}

async function listenOn(path: string): Promise<Server | undefined> {
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.end(String(process.pid));
  });
  try {
    server.listen(path);
    await once(server, "listening");
    return server;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EADDRINUSE") return undefined;
    throw error;
  }
}

/** The process id of who listens there, "unknown" when it does not say, or undefined when nobody listens. */
function holderOf(path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    let text = "";
    const socket = connect(path);
    // A holder that is stopped still holds.
    socket.setTimeout(500, () => socket.destroy());
    let accepted = false;
    socket.on("connect", () => (accepted = true));
    socket.on("data", (chunk) => (text += chunk.toString()));
    socket.on("error", () => undefined);
    socket.on("close", () => resolve(accepted ? text || "unknown" : undefined));
  });
}

export type StoreState =
  | { readonly state: "absent" | "loading" }
  | { readonly state: "ready"; readonly pid: number | undefined };

/** Whether a store answers on the socket. */
export async function storeAt(socketPath: string, timeoutMs = 1_000): Promise<StoreState> {
  const client = openClient({ path: socketPath }, NO_CREDENTIALS);
  client.on("error", () => undefined);
  const timer = setTimeout(() => client.destroy(), timeoutMs);
  try {
    await client.connect();
    await client.sendCommand(["PING"]);
    const info = String(await client.sendCommand(["INFO", "server"]).catch(() => ""));
    const pid = /process_id:(\d+)/.exec(info)?.[1];
    return { state: "ready", pid: pid === undefined ? undefined : Number(pid) };
  } catch (error) {
    return { state: error instanceof Error && error.message.startsWith("LOADING") ? "loading" : "absent" };
  } finally {
    clearTimeout(timer);
    client.destroy();
  }
}

/**
 * Ends the store that a killed service left running on the socket. The lock is held, so it serves nobody.
 * @throws Error when it does not end.
 */
export async function endOrphan(socketPath: string, log: Logger): Promise<void> {
  const deadlineMs = performance.now() + ORPHAN_TIMEOUT_MS;
  let found = await storeAt(socketPath);
  while (found.state === "loading" && performance.now() < deadlineMs) {
    await sleep(50);
    found = await storeAt(socketPath);
  }
  if (found.state === "ready") {
    log.warn({ pid: found.pid }, "a store was left running by a service that was killed: shutting it down");
    await shutDown(socketPath);
    while (found.pid === undefined ? (await storeAt(socketPath)).state !== "absent" : isRunning(found.pid)) {
      if (performance.now() >= deadlineMs) throw new Error("the store that was left running does not end");
      await sleep(10);
    }
  }
  await rm(socketPath, { force: true });
}

async function shutDown(socketPath: string): Promise<void> {
  const client = openClient({ path: socketPath }, NO_CREDENTIALS);
  client.on("error", () => undefined);
  try {
    await client.connect();
    // It answers by going away.
    await client.sendCommand(["SHUTDOWN"]).catch(() => undefined);
  } finally {
    client.destroy();
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
  try {
    // In a container whose first process does not reap orphans, a dead one stays listed as a zombie.
    return !/^\d+ \(.*\) [ZX]/s.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    // There is no /proc on this system, or the process is gone by now, which the next look will tell.
    return true;
  }
}
