// What both hosts share: they listen on TCP or on a Unix socket, and drain without cutting off open calls.

import cluster from "node:cluster";
import { once } from "node:events";
import { chmodSync } from "node:fs";
import { lstat, unlink } from "node:fs/promises";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { isMainThread } from "node:worker_threads";
import type { ListenAddress } from "../lib/listen_address.ts";
import type { Pipeline } from "../rpc/pipeline.ts";

/** The maximum size of a request message. */
export const MAX_RECEIVE_BYTES = 256 * 1024;
/** Per connection. */
export const MAX_CONCURRENT_STREAMS = 1024;
/** The memory that one connection may use before its new streams are refused. */
export const MAX_SESSION_MEMORY_MB = 64;

export type TlsOptions = {
  /** PEM. */
  readonly cert: Buffer;
  /** PEM. */
  readonly key: Buffer;
  /** PEM. If given, clients must present a certificate signed by it. */
  readonly clientCa?: Buffer | undefined;
};

export type Host = {
  /** The address, with the port that was bound if it was 0. */
  readonly address: ListenAddress;
  /** Stops accepting connections, ends the streams, lets unary calls finish, and cuts off the rest after `graceMs`. */
  drain(graceMs: number): Promise<void>;
};

/** What serves the connections of a host. It does not listen itself. */
type ProtocolServer = {
  accept(socket: Socket): void;
  /** Closes idle connections, and every other one when its calls have ended. */
  close(): void;
  /** Cuts off the calls in flight. */
  forceClose?(): void;
};

/** Rejects if the address is in use, or is the path of a file that is not a socket. */
export async function startHost(address: ListenAddress, pipeline: Pipeline, protocol: ProtocolServer): Promise<Host> {
  const server = createServer({ noDelay: true }, (socket) => protocol.accept(socket));
  const sockets = trackSockets(server);
  // A worker shares the socket with the others: the primary removes a stale one before it forks them.
  if (address.kind === "unix" && !cluster.isWorker) await removeStaleSocket(address.path);
  const listening = once(server, "listening");
  if (address.kind === "tcp") server.listen(address.port, address.host);
  else listenPrivately(server, address.path);
  await listening;

  return {
    address: address.kind === "tcp" ? { ...address, port: (server.address() as AddressInfo).port } : address,
    async drain(graceMs) {
      pipeline.endStreams();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      protocol.close();
      const force = setTimeout(() => {
        protocol.forceClose?.();
        for (const socket of sockets) socket.destroy();
      }, graceMs);
      await closed;
      clearTimeout(force);
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
  const probe = connect(path);
  const isStale = await once(probe, "connect").then(
    () => false,
    (error: NodeJS.ErrnoException) => error.code === "ECONNREFUSED",
  );
  probe.destroy();
  if (!isStale) throw new Error(`${path} is in use by another process`);
  await unlink(path);
}
