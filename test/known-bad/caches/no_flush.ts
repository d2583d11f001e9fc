// Caches that are broken on purpose: they keep what they hold through a loss of continuity.

import { CLIENT_PARTS, type ClientParts } from "../../../src/client/client.ts";
import { startWatchLoop } from "../../../src/client/watch_loop.ts";

/** Does not heed a reset. */
export const noFlushOnReset: ClientParts = {
  ...CLIENT_PARTS,
  startWatchLoop: (connection, events) => startWatchLoop(connection, { ...events, onReset: () => undefined }),
};

/** Reconnects from now, not from where it was, and keeps what it holds. */
export const noFlushOnReconnect: ClientParts = {
  ...CLIENT_PARTS,
  startWatchLoop(connection, events) {
    return startWatchLoop(
      {
        ...connection,
        serverStream: (method, request) => connection.serverStream(method, { ...request, resumePosition: "" }),
      },
      { ...events, onReset: () => undefined },
    );
  },
};
