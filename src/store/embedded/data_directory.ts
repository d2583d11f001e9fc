// Ensures one service per data directory: by a lock that ends with its process, and by stopping a store that was left running.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { lstat, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { withClient } from "../connection/store_client.ts";

export const NO_CREDENTIALS = { tls: false, username: undefined, password: undefined, database: 0 };
/** The kernel's limit is 108 with the final zero on Linux and 104 elsewhere. */
const MAX_SOCKET_PATH_BYTES = 100;
const LONGEST_SOCKET_NAME = "store.sock";
const ORPHAN_TIMEOUT_MS = 10_000;
const RESPONSE_TIMEOUT_MS = 1_000;

/**
 * Creates the directory for the sockets of a data directory, which only this user can enter. It is not inside the data
 * directory, because the path of a socket must be short. Its name is derived from the data directory, so that the next start
 * finds what this one left behind.
 * @throws Error if the directory belongs to another user, or if every possible path is too long.
 */
export async function createRuntimeDirectory(dataDir: string): Promise<string> {
  const uid = process.getuid?.() ?? 0;
  const name = `session-authority-${uid}-${createHash("sha256").update(dataDir).digest("hex").slice(0, 12)}`;
  const fits = (path: string): boolean => Buffer.byteLength(join(path, LONGEST_SOCKET_NAME)) <= MAX_SOCKET_PATH_BYTES;
  const directory = [tmpdir(), "/tmp"].map((parent) => join(parent, name)).find(fits);
  if (directory === undefined) throw new Error("the path of the temporary directory is too long for a Unix socket");
  await mkdir(directory, { recursive: true, mode: 0o700 });
  // All users can write to the parent, so another user may have created the directory.
  const status = await lstat(directory);
  if (!status.isDirectory() || status.uid !== uid || (status.mode & 0o077) !== 0) {
    throw new Error(`${directory} must be a directory that belongs to this user and that no other user can enter`);
  }
  return directory;
}

/** SQLite's error code for a database that another connection has locked. */
const SQLITE_BUSY = 5;

/**
 * Locks the data directory by an exclusive transaction on an empty SQLite database. Node has no file locks; SQLite uses those
 * of the kernel, which releases them when the process ends, however it ends. Returns the function that releases the lock.
 * @throws Error if another service holds the lock.
 */
export async function lockDataDirectory(runtimeDir: string, dataDir: string): Promise<() => void> {
  const pidFile = join(runtimeDir, "lock.pid");
  const database = new DatabaseSync(join(runtimeDir, "lock.db"));
  try {
    database.exec("BEGIN EXCLUSIVE");
  } catch (error) {
    database.close();
    // The low byte is the error code; the rest are details.
    if (((error as { errcode?: number }).errcode ?? 0) % 256 !== SQLITE_BUSY) throw error;
    const holder = await readFile(pidFile, "utf8").catch(() => "unknown");
    throw new Error(`the data directory ${dataDir} is in use by another session authority (process ${holder})`, {
      cause: error,
    });
  }
  await writeFile(pidFile, String(process.pid));
  return () => database.close();
}

type StoreState = { readonly state: "absent" | "loading" | "ready"; readonly pid?: number };

/** Returns the state of the store on the socket; `absent` if none responds in time. */
export async function storeAt(socketPath: string): Promise<StoreState> {
  try {
    return await withClient({ path: socketPath }, NO_CREDENTIALS, RESPONSE_TIMEOUT_MS, async (client) => {
      await client.sendCommand(["PING"]);
      const info = String(await client.sendCommand(["INFO", "server"]).catch(() => ""));
      const pid = /process_id:(\d+)/.exec(info)?.[1];
      return pid === undefined ? { state: "ready" } : { state: "ready", pid: Number(pid) };
    });
  } catch (error) {
    return { state: error instanceof Error && error.message.startsWith("LOADING") ? "loading" : "absent" };
  }
}

/**
 * Shuts down the store that a killed service left running on the socket. The caller holds the lock, so no service uses it.
 * @throws Error if the store does not exit in time.
 */
export async function stopOrphan(socketPath: string, log: Logger): Promise<void> {
  const deadlineMs = performance.now() + ORPHAN_TIMEOUT_MS;
  let found = await storeAt(socketPath);
  while (found.state === "loading" && performance.now() < deadlineMs) {
    await sleep(50);
    found = await storeAt(socketPath);
  }
  if (found.state === "ready") {
    log.warn({ pid: found.pid }, "a killed service left its store running; the store is shut down and started again");
    await shutDown(socketPath);
    while (found.pid === undefined ? (await storeAt(socketPath)).state !== "absent" : isRunning(found.pid)) {
      if (performance.now() >= deadlineMs)
        throw new Error("the store that a killed service left running does not exit");
      await sleep(10);
    }
  }
  await rm(socketPath, { force: true });
}

async function shutDown(socketPath: string): Promise<void> {
  await withClient({ path: socketPath }, NO_CREDENTIALS, ORPHAN_TIMEOUT_MS, async (client) => {
    // The store closes the connection instead of replying.
    await client.sendCommand(["SHUTDOWN"]).catch(() => undefined);
  });
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
  try {
    // In a container whose first process does not reap orphans, a process that has exited stays listed as a zombie.
    return !/^\d+ \(.*\) [ZX]/s.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    // This system has no /proc, or the process has exited by now, which the next call finds out.
    return true;
  }
}
