// A cache that is broken on purpose: every checkpoint extends the lease, no matter when it was sent.

import type { WatchInvalidationsResponse } from "../../../gen/session/v1/watch_pb.ts";
import { CLIENT_PARTS, type ClientParts } from "../../../src/client/client.ts";
import { nowMs } from "../../../src/client/clock.ts";
import { startWatchLoop } from "../../../src/client/watch_loop.ts";

const LEASE_MS = 3000;

export const oneWayHeartbeats: ClientParts = {
  ...CLIENT_PARTS,
  startWatchLoop(connection, events) {
    return startWatchLoop(
      {
        ...connection,
        serverStream(method, request) {
          const stream = connection.serverStream(method, request);
          stream.on("data", ({ event }: WatchInvalidationsResponse) => {
            if (event.case === "checkpoint") events.onLease(nowMs() + LEASE_MS);
          });
          return stream;
        },
      },
      events,
    );
  },
};
