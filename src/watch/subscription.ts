// One watcher: what waits for it, and where what it hears goes.

import { create } from "@bufbuild/protobuf";
import {
  WatchInvalidationsResponseSchema,
  WatchResetCause,
  type WatchInvalidationsResponse,
} from "../../gen/session/v1/watch_pb.ts";
import type { PushStream } from "../lib/push_stream.ts";

/** One message for any number of watchers, made once. */
export type WatchMessage = { readonly message: WatchInvalidationsResponse; readonly bytes: number };

const MAX_QUEUED_MESSAGES = 1024;
const MAX_QUEUED_BYTES = 256 * 1024;

/**
 * Data and no closures: a change goes through thousands of these that the processor's cache does not hold, so that each
 * further object on the way costs more than the work on it. `push` and `feedOf` are what may be done with it.
 */
export type Subscription = {
  /** Messages pass by the queue while there is room for them. */
  hasRoom: boolean;
  send: (message: WatchInvalidationsResponse) => boolean;
  queue: WatchMessage[];
  queuedBytes: number;
  readonly id: string;
};

export function createSubscription(id: string): Subscription {
  return { hasRoom: false, send: () => false, queue: [], queuedBytes: 0, id };
}

/** Sends or queues a message. A watcher that falls too far behind loses its queue and gets a reset in its place. */
export function enqueueOrSend(watcher: Subscription, message: WatchMessage, positionNow: () => string): void {
  if (watcher.hasRoom) watcher.hasRoom = watcher.send(message.message);
  else enqueue(watcher, message, positionNow);
}

function enqueue(watcher: Subscription, message: WatchMessage, positionNow: () => string): void {
  if (watcher.queue.length >= MAX_QUEUED_MESSAGES || watcher.queuedBytes + message.bytes > MAX_QUEUED_BYTES) {
    watcher.queue = [{ message: resetMessage(WatchResetCause.OVERFLOW, positionNow()), bytes: 0 }];
    watcher.queuedBytes = 0;
  } else {
    watcher.queue.push(message);
    watcher.queuedBytes += message.bytes;
  }
}

/** What is queued and all that comes, once, as a feed. */
export function toPushStream(watcher: Subscription): PushStream<WatchInvalidationsResponse> {
  return (send) => {
    watcher.send = send;
    const sendQueued = () => {
      watcher.hasRoom = true;
      while (watcher.hasRoom && watcher.queue.length > 0) {
        const { message, bytes } = watcher.queue.shift()!;
        watcher.queuedBytes -= bytes;
        watcher.hasRoom = send(message);
      }
    };
    sendQueued();
    return sendQueued;
  };
}

export function resetMessage(cause: WatchResetCause, position: string, partition?: number): WatchInvalidationsResponse {
  return create(WatchInvalidationsResponseSchema, { event: { case: "reset", value: { cause, position, partition } } });
}
