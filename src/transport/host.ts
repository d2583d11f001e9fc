// What a started host offers to the server.

import type { ListenAddress } from "../lib/listen_address.ts";

export type Host = {
  /** The address that was bound. */
  readonly address: ListenAddress;
  /** Stops accepting connections, ends the streams, lets unary calls finish, and cuts off the rest after `graceMs`. */
  drain(graceMs: number): Promise<void>;
};
