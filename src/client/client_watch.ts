// The client's watch: passes what the watch loop receives to the cache and to the caller's handlers.

import type { Invalidation } from "../../gen/session/v1/watch_pb.ts";
import type { SessionCache } from "./cache.ts";
import type { ServiceConnection } from "./connection.ts";
import type { startWatchLoop, WatchLoopEvents } from "./watch_loop.ts";

/** With a cache the watch starts at once; without one, with the first handler. */
export function createClientWatch(
  connection: ServiceConnection,
  cache: SessionCache | undefined,
  startLoop: typeof startWatchLoop,
) {
  const invalidated = createHandlers<Invalidation>();
  const reset = createHandlers<void>();
  let error: string | undefined;
  let stopLoop: (() => void) | undefined;
  let closed = false;

  const events: WatchLoopEvents = {
    onInvalidation(invalidation) {
      cache?.invalidate(invalidation.sessionId);
      invalidated.call(invalidation);
    },
    onReset(partition) {
      if (partition === undefined) cache?.clear();
      else cache?.clearPartition(partition);
      reset.call();
    },
    onLease(untilMs) {
      error = undefined;
      cache?.extendLease(untilMs);
    },
    onBroken: (reason) => void (error = reason),
  };

  function start(): void {
    if (!closed) stopLoop ??= startLoop(connection, events);
  }
  if (cache !== undefined) start();

  return {
    onInvalidated(handler: (invalidation: Invalidation) => void): () => void {
      start();
      return invalidated.add(handler);
    },
    onReset(handler: () => void): () => void {
      start();
      return reset.add(handler);
    },
    /** Why the stream broke last; undefined once a lease was granted since. */
    get error(): string | undefined {
      return error;
    },
    close(): void {
      closed = true;
      stopLoop?.();
    },
  };
}

/** The caller's handlers of one event. If one throws, the process emits a warning and the others are still called. */
function createHandlers<T>() {
  const handlers = new Set<{ readonly handler: (value: T) => unknown }>();
  return {
    /** Returns the function that removes the handler. */
    add(handler: (value: T) => unknown): () => void {
      const added = { handler };
      handlers.add(added);
      return () => void handlers.delete(added);
    },
    call(value: T): void {
      for (const { handler } of handlers) (async () => handler(value))().catch(warn);
    },
  };
}

function warn(error: unknown): void {
  process.emitWarning(error instanceof Error ? error : String(error));
}
