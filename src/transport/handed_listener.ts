// A listener that does not listen: it gets its connections from another process.

import type { Server, Socket } from "node:net";
import type { ListenAddress } from "../lib/listen_address.ts";
import { trackSockets, type Listener } from "./listener.ts";

export type HandedListener = {
  listen(server: Server, address: ListenAddress): Promise<Listener>;
  /** A connection of which nothing has been read. */
  take(socket: Socket): void;
};

export function createHandedListener(): HandedListener {
  let take = (socket: Socket): unknown => socket.destroy();
  return {
    listen(server, address) {
      const sockets = trackSockets(server);
      take = (socket) => server.emit("connection", socket);
      const listener: Listener = {
        address,
        async closed() {
          take = (socket) => socket.destroy();
          await Promise.all([...sockets].map((socket) => new Promise((resolve) => socket.once("close", resolve))));
        },
        destroyAll() {
          for (const socket of sockets) socket.destroy();
        },
      };
      return Promise.resolve(listener);
    },
    take: (socket) => void take(socket),
  };
}
