// One service per data directory: a lock that a killed process cannot leave behind, and the end of the store it left.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { lstat, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { openClient } from "../connection/node_connection.ts";

const NO_CREDENTIALS = { tls: false, username: undefined, password: undefined, database: 0 };
/** The kernel's limit is 108 with the final zero on Linux and 104 elsewhere. */
const MAX_SOCKET_PATH_BYTES = 100;
const LONGEST_SOCKET_NAME = "store.sock";
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

/** What SQLite says of a database that another connection holds. */
const SQLITE_BUSY = 5;

/**
 * Holds the data directory by an exclusive transaction on a database without content: Node has no file locks of its own,
 * SQLite's are the kernel's, which ends them with the process, however it dies.
 * @throws Error when another service holds it.
 */
export async function lockDataDirectory(runtimeDir: string, dataDir: string): Promise<DataDirectoryLock> {
  const pidFile = join(runtimeDir, "lock.pid");
  const database = new DatabaseSync(join(runtimeDir, "lock.db"));
  try {
    database.exec("BEGIN EXCLUSIVE");
  } catch (error) {
    database.close();
    // The low byte: the rest says more about the same.
    if (((error as { errcode?: number }).errcode ?? 0) % 256 !== SQLITE_BUSY) throw error;
    const holder = await readFile(pidFile, "utf8").catch(() => "unknown");
    throw new Error(`the data directory ${dataDir} is in use by another session authority (process ${holder})`, {
      cause: error,
    });
  }
  await writeFile(pidFile, String(process.pid));
  let released = false;
  return {
    async release() {
      if (released) return;
      released = true;
      database.close();
    },
  };
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
