// Caches that are broken on purpose: they keep their entries although invalidations may be missing.

import { CLIENT_PARTS, type ClientParts } from "../../../src/client/client.ts";
import { startWatchLoop } from "../../../src/client/watch_loop.ts";

/** Ignores resets. */
export const noFlushOnReset: ClientParts = {
  ...CLIENT_PARTS,
  startWatchLoop: (connection, events) => startWatchLoop(connection, { ...events, onReset: () => undefined }),
};

/** Reconnects from now instead of resuming, and keeps its entries. */
export const noFlushOnReconnect: ClientParts = {
  ...CLIENT_PARTS,
  startWatchLoop(connection, events) {
    return startWatchLoop(
      {
        ...connection,
        bidiStream: (method) => connection.bidiStream(method, { request: { case: "open", value: {} } } as never),
      },
      { ...events, onReset: () => undefined },
    );
  },
};
