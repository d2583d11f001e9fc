// The giving half of a connection's way: from the primary, which accepts it, to a worker, which serves it.
//
// A connection stays in the primary's hands until the worker says that it has it. One that was on its way to a worker that
// dies is given to another: nobody else would ever answer it, nor close it.

import type { Worker } from "node:cluster";
import type { Socket } from "node:net";
import type { ListenerName } from "../server.ts";
import { sendToWorker } from "./messages.ts";

export type Handover = {
  /** Takes a connection of which nothing has been read. */
  give(listener: ListenerName, socket: Socket): void;
  /** The worker has a connection. */
  accepted(worker: Worker, id: number): void;
  /** The worker takes connections from now on, or no more. */
  add(worker: Worker): void;
  remove(worker: Worker): void;
};

type Connection = { readonly listener: ListenerName; readonly socket: Socket };

/** As many connections wait while no worker is there; the oldest go first, for their callers have given up. */
const MAX_WAITING = 1_024;

export function createHandover(): Handover {
  // The connections on their way to each worker; the worker that was given one longest ago is the first.
  const onTheWay = new Map<Worker, Map<number, Connection>>();
  let waiting: Connection[] = [];
  let lastId = 0;

  /** The worker whose turn it is, among those that take what they are given. */
  function next(): Worker | undefined {
    let best: Worker | undefined;
    let fewest = Infinity;
    for (const [worker, connections] of onTheWay) {
      if (connections.size >= fewest) continue;
      best = worker;
      fewest = connections.size;
    }
    return best;
  }

  function give(connection: Connection): void {
    const worker = next();
    if (worker === undefined) {
      waiting.push(connection);
      if (waiting.length > MAX_WAITING) waiting.shift()!.socket.destroy();
      return;
    }
    const connections = onTheWay.get(worker)!;
    onTheWay.delete(worker);
    onTheWay.set(worker, connections);
    const id = ++lastId;
    connections.set(id, connection);
    sendToWorker(worker, { type: "connection", id, listener: connection.listener }, connection.socket, {
      keepOpen: true,
    });
  }

  return {
    give: (listener, socket) => give({ listener, socket }),
    accepted(worker, id) {
      // Only this process's hold on it ends.
      onTheWay.get(worker)?.get(id)?.socket.destroy();
      onTheWay.get(worker)?.delete(id);
    },
    add(worker) {
      onTheWay.set(worker, new Map());
      const all = waiting;
      waiting = [];
      for (const connection of all) give(connection);
    },
    remove(worker) {
      const lost = onTheWay.get(worker);
      onTheWay.delete(worker);
      for (const connection of lost?.values() ?? []) give(connection);
    },
  };
}
