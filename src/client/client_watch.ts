// The client's watch: passes what the watch loop receives to the cache and to the caller's handlers.

import type { Invalidation } from "../../gen/session/v1/watch_pb.ts";
import type { SessionCache } from "./cache.ts";
import type { ServiceConnection } from "./connection.ts";
import type { startWatchLoop } from "./watch_loop.ts";

/** With a cache the watch starts at once; without one, with the first handler. */
export function createClientWatch(
  connection: ServiceConnection,
  cache: SessionCache | undefined,
  startLoop: typeof startWatchLoop,
) {
  const invalidationHandlers = new Set<(invalidation: Invalidation) => void>();
  const resetHandlers = new Set<() => void>();
  let error: string | undefined;
  let stopLoop: (() => void) | undefined;

  function start(): void {
    stopLoop ??= startLoop(connection, {
      onInvalidation(invalidation) {
        cache?.invalidate(invalidation.sessionId);
        for (const handler of invalidationHandlers) handler(invalidation);
      },
      onReset(partition) {
        if (partition === undefined) cache?.clear();
        else cache?.clearPartition(partition);
        for (const handler of resetHandlers) handler();
      },
      onLease(untilMs) {
        error = undefined;
        cache?.extendLease(untilMs);
      },
      onBroken: (reason) => void (error = reason),
    });
  }
  if (cache !== undefined) start();

  function add<T>(handlers: Set<(value: T) => void>, handler: (value: T) => unknown): () => void {
    start();
    // If a handler throws, the process emits a warning and the others are still called.
    const added = (value: T) => void (async () => handler(value))().catch(warn);
    handlers.add(added);
    return () => void handlers.delete(added);
  }

  return {
    onInvalidated: (handler: (invalidation: Invalidation) => void) => add(invalidationHandlers, handler),
    onReset: (handler: () => void) => add(resetHandlers, handler),
    /** Why the stream broke last; undefined once a lease was granted since. */
    error: () => error,
    close(): void {
      stopLoop?.();
      // A handler that is added later does not start the loop again.
      stopLoop = () => undefined;
    },
  };
}

function warn(error: unknown): void {
  process.emitWarning(error instanceof Error ? error : String(error));
}
