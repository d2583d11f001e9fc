// A subscription: the state of one open watch on this instance, that is its stream and the messages queued for it.

import { WatchResetCause } from "../../gen/session/v1/watch_pb.ts";
import type { PushStream } from "../lib/push_stream.ts";
import { resetMessage, type WatchMessage, type WatchResponse } from "./messages.ts";

const MAX_QUEUED_MESSAGES = 1024;
const MAX_QUEUED_BYTES = 256 * 1024;

/**
 * Plain data without closures: each change goes through thousands of subscriptions that are not in the processor's cache, and
 * there each further object to load costs more than the work on it.
 */
export type Subscription = {
  /** True while messages may bypass the queue: the queue is empty and the stream accepts more. */
  isWritable: boolean;
  write: (message: WatchResponse) => boolean;
  queue: WatchMessage[];
  queuedBytes: number;
  /** The last position that was sent or queued; empty if none was, or if it may have been dropped. */
  position: string;
};

export function createSubscription(): Subscription {
  return { isWritable: false, write: () => false, queue: [], queuedBytes: 0, position: "" };
}

/**
 * Sends a message, or queues it while the stream applies backpressure. If the queue is full, drops all of it and queues a reset
 * of everything.
 */
export function enqueueOrSend(subscription: Subscription, message: WatchMessage): void {
  if (subscription.isWritable) subscription.isWritable = subscription.write(message.message);
  else enqueue(subscription, message);
}

function enqueue(subscription: Subscription, message: WatchMessage): void {
  const { queue, queuedBytes } = subscription;
  if (queue.length >= MAX_QUEUED_MESSAGES || queuedBytes + message.bytes > MAX_QUEUED_BYTES) {
    const reset = resetMessage(WatchResetCause.OVERFLOW, "");
    subscription.queue = [reset];
    subscription.queuedBytes = reset.bytes;
    subscription.position = "";
  } else {
    queue.push(message);
    subscription.queuedBytes += message.bytes;
  }
}

/** Returns the queued messages and all later ones as a push stream, which can be started once. */
export function toPushStream(subscription: Subscription): PushStream<WatchResponse> {
  return (write) => {
    subscription.write = write;
    const drain = () => {
      subscription.isWritable = true;
      while (subscription.isWritable && subscription.queue.length > 0) {
        const { message, bytes } = subscription.queue.shift()!;
        subscription.queuedBytes -= bytes;
        subscription.isWritable = write(message);
      }
    };
    drain();
    return drain;
  };
}
