// One watcher: what it wants to hear, and what waits for it.

import { create } from "@bufbuild/protobuf";
import {
  WatchInvalidationsResponseSchema,
  WatchResetCause,
  type WatchInvalidationsResponse,
} from "../../gen/session/v1/invalidations_pb.ts";
import type { InvalidationReason } from "../../gen/session/v1/session_pb.ts";
import type { Feed } from "../domain/feed.ts";

/** What a watcher wants to hear of; an empty set is everything. */
export type WatchFilter = {
  /** The owners of one tenant begin with this. */
  readonly ownerPrefix: string;
  readonly owners: ReadonlySet<string>;
  readonly sessionIds: ReadonlySet<string>;
  readonly reasons: ReadonlySet<InvalidationReason>;
};

/** One message for any number of watchers, made once. */
export type WatchMessage = { readonly message: WatchInvalidationsResponse; readonly bytes: number };

const MAX_QUEUED_MESSAGES = 1024;
const MAX_QUEUED_BYTES = 256 * 1024;

export type Watcher = {
  readonly id: string;
  readonly tenant: string;
  readonly filter: WatchFilter;
  /** Queues a message. A watcher that falls too far behind loses its queue and gets a reset in its place. */
  push(message: WatchMessage, positionNow: () => string): void;
  /** What is queued and all that comes, once, as a feed. */
  readonly feed: Feed<WatchInvalidationsResponse>;
};

export function createWatcher(id: string, tenant: string, filter: WatchFilter): Watcher {
  let queue: WatchMessage[] = [];
  let queuedBytes = 0;
  // Messages pass by the queue while there is room for them.
  let hasRoom = false;
  let send: (message: WatchInvalidationsResponse) => boolean;

  function sendQueued(): void {
    hasRoom = true;
    while (hasRoom && queue.length > 0) {
      const { message, bytes } = queue.shift()!;
      queuedBytes -= bytes;
      hasRoom = send(message);
    }
  }

  return {
    id,
    tenant,
    filter: {
      ownerPrefix: filter.ownerPrefix,
      owners: sharedIfEmpty(filter.owners),
      sessionIds: sharedIfEmpty(filter.sessionIds),
      reasons: sharedIfEmpty(filter.reasons),
    },
    push(message, positionNow) {
      if (hasRoom) {
        hasRoom = send(message.message);
      } else if (queue.length >= MAX_QUEUED_MESSAGES || queuedBytes + message.bytes > MAX_QUEUED_BYTES) {
        queue = [{ message: resetMessage(WatchResetCause.OVERFLOW, positionNow()), bytes: 0 }];
        queuedBytes = 0;
      } else {
        queue.push(message);
        queuedBytes += message.bytes;
      }
    },
    feed(to) {
      send = to;
      sendQueued();
      return sendQueued;
    },
  };
}

// Every change looks at every watcher's filter: one empty set for all of them stays in the processor's cache.
const EMPTY: ReadonlySet<never> = new Set();

function sharedIfEmpty<T>(set: ReadonlySet<T>): ReadonlySet<T> {
  return set.size === 0 ? EMPTY : set;
}

export function resetMessage(cause: WatchResetCause, position: string, partition?: number): WatchInvalidationsResponse {
  return create(WatchInvalidationsResponseSchema, { event: { case: "reset", value: { cause, position, partition } } });
}
