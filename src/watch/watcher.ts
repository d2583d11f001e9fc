// One watcher: what it wants to hear, and what waits for it.

import { create } from "@bufbuild/protobuf";
import {
  WatchInvalidationsResponseSchema,
  WatchResetCause,
  type WatchInvalidationsResponse,
} from "../../gen/session/v1/invalidations_pb.ts";
import type { InvalidationReason } from "../../gen/session/v1/session_pb.ts";

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
  /** Everything that is queued; waits while nothing is. Rejects with the signal's reason. */
  take(signal: AbortSignal): Promise<WatchInvalidationsResponse[]>;
};

export function createWatcher(id: string, tenant: string, filter: WatchFilter): Watcher {
  let queue: WatchInvalidationsResponse[] = [];
  let queuedBytes = 0;
  let wake: (() => void) | undefined;

  return {
    id,
    tenant,
    filter,
    push({ message, bytes }, positionNow) {
      if (queue.length >= MAX_QUEUED_MESSAGES || queuedBytes + bytes > MAX_QUEUED_BYTES) {
        queue = [resetMessage(WatchResetCause.OVERFLOW, positionNow())];
        queuedBytes = 0;
      } else {
        queue.push(message);
        queuedBytes += bytes;
      }
      wake?.();
    },
    async take(signal) {
      signal.throwIfAborted();
      if (queue.length === 0) {
        await new Promise<void>((resolve, reject) => {
          const abort = () => reject(signal.reason);
          signal.addEventListener("abort", abort, { once: true });
          wake = () => {
            wake = undefined;
            signal.removeEventListener("abort", abort);
            resolve();
          };
        });
      }
      const taken = queue;
      queue = [];
      queuedBytes = 0;
      return taken;
    },
  };
}

export function resetMessage(cause: WatchResetCause, position: string, partition?: number): WatchInvalidationsResponse {
  return create(WatchInvalidationsResponseSchema, { event: { case: "reset", value: { cause, position, partition } } });
}
