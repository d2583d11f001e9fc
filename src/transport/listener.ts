// Listens on TCP or on a Unix socket, and closes without cutting off open connections.

import cluster from "node:cluster";
import { chmodSync } from "node:fs";
import { lstat, unlink } from "node:fs/promises";
import { connect, type AddressInfo, type Server, type Socket } from "node:net";
import { isMainThread } from "node:worker_threads";
import type { ListenAddress } from "../lib/listen_address.ts";

export type Listener = {
  /** The address, with the port that was bound if it was 0. */
  readonly address: ListenAddress;
  /** Stops accepting; resolves when every connection is closed. */
  closed(): Promise<void>;
  /** Destroys all open connections. */
  destroyAll(): void;
};

/** Rejects if the address is in use, or is the path of a file that is not a socket. */
export async function listen(server: Server, address: ListenAddress): Promise<Listener> {
  const sockets = trackSockets(server);
  // A worker shares the socket with the others: the primary removes a stale one before it forks them.
  if (address.kind === "unix" && !cluster.isWorker) await removeStaleSocket(address.path);
  const listening = new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.once("listening", () => {
      server.off("error", reject);
      resolve();
    });
  });
  if (address.kind === "tcp") server.listen(address.port, address.host);
  else listenPrivately(server, address.path);
  await listening;

  return {
    address: address.kind === "tcp" ? { ...address, port: (server.address() as AddressInfo).port } : address,
    closed: () => new Promise((resolve) => server.close(() => resolve())),
    destroyAll() {
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** The server's open connections, kept up to date. */
function trackSockets(server: Server): ReadonlySet<Socket> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    // The protocol server handles errors while it serves the socket; this covers the time before and after.
    socket.on("error", () => undefined);
  });
  return sockets;
}

// Lets only the owner connect. Worker threads cannot set a umask, so there it takes effect a moment after the bind.
function listenPrivately(server: Server, path: string): void {
  server.once("listening", () => chmodSync(path, 0o600));
  const umask = isMainThread ? process.umask(0o177) : undefined;
  try {
    server.listen(path);
  } finally {
    if (umask !== undefined) process.umask(umask);
  }
}

// A process that was killed leaves its socket behind. The socket is stale only if nothing listens on it.
export async function removeStaleSocket(path: string): Promise<void> {
  const stats = await lstat(path).catch(() => undefined);
  if (stats === undefined) return;
  if (!stats.isSocket()) throw new Error(`${path} exists and is not a socket`);
  const isStale = await new Promise<boolean>((resolve) => {
    const probe = connect(path);
    probe.once("connect", () => {
      probe.destroy();
      resolve(false);
    });
    probe.once("error", (error: NodeJS.ErrnoException) => resolve(error.code === "ECONNREFUSED"));
  });
  if (!isStale) throw new Error(`${path} is in use by another process`);
  await unlink(path);
}
