// A cache that is broken on purpose: every checkpoint extends the lease, no matter when it was sent.

import type { WatchWithLeaseResponse } from "../../../gen/session/v1/watch_pb.ts";
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
        bidiStream(method, first) {
          const stream = connection.bidiStream(method, first);
          stream.on("data", ({ event }: WatchWithLeaseResponse) => {
            if (event.case === "checkpoint") events.onLease(nowMs() + LEASE_MS);
          });
          return stream;
        },
      },
      events,
    );
  },
};
