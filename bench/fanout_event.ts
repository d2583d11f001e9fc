// The event that every contestant sends, as large as a real one, and the time between two events.

import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { WatchInvalidationsResponseSchema } from "../gen/session/v1/watch_pb.ts";
import { InvalidationReason } from "../gen/session/v1/session_pb.ts";

export const EVENT_SPACING_MS = 20;

export const EVENT = create(WatchInvalidationsResponseSchema, {
  event: {
    case: "invalidation",
    value: {
      sessionId: "CE34Hja4EKWv6JBBJL3nDozjeq0I",
      userId: "user-1",
      reason: InvalidationReason.REVOKED,
      version: 1n,
      time: timestampFromMs(Date.now()),
      actor: "anonymous",
      changeId: "171-1-42",
    },
  },
});
