// The client's watch: passes what the watch loop receives to the cache and to the caller's handlers.

import type { Invalidation } from "../../gen/session/v1/watch_pb.ts";
import type { SessionCache } from "./cache.ts";
import type { ServiceConnection } from "./connection.ts";
import type { startWatchLoop } from "./watch_loop.ts";

export class ClientWatch {
  readonly #connection: ServiceConnection;
  readonly #cache: SessionCache | undefined;
  readonly #startLoop: typeof startWatchLoop;
  readonly #invalidationHandlers = new Handlers<Invalidation>();
  readonly #resetHandlers = new Handlers<void>();
  #stopLoop: (() => void) | undefined;
  #error: string | undefined;
  #closed = false;

  /** With a cache the watch starts at once; without one, with the first handler. */
  constructor(connection: ServiceConnection, cache: SessionCache | undefined, startLoop: typeof startWatchLoop) {
    this.#connection = connection;
    this.#cache = cache;
    this.#startLoop = startLoop;
    if (cache !== undefined) this.#start();
  }

  /** Why the stream broke last; undefined once a lease was granted since. */
  get error(): string | undefined {
    return this.#error;
  }

  onInvalidated(handler: (invalidation: Invalidation) => void): () => void {
    this.#start();
    return this.#invalidationHandlers.add(handler);
  }

  onReset(handler: () => void): () => void {
    this.#start();
    return this.#resetHandlers.add(handler);
  }

  close(): void {
    this.#closed = true;
    this.#stopLoop?.();
  }

  #start(): void {
    if (this.#closed) return;
    this.#stopLoop ??= this.#startLoop(this.#connection, {
      onInvalidation: (invalidation) => {
        this.#cache?.invalidate(invalidation.sessionId);
        this.#invalidationHandlers.call(invalidation);
      },
      onReset: (partition) => {
        if (partition === undefined) this.#cache?.clear();
        else this.#cache?.clearPartition(partition);
        this.#resetHandlers.call();
      },
      onLease: (untilMs) => {
        this.#error = undefined;
        this.#cache?.extendLease(untilMs);
      },
      onBroken: (reason) => void (this.#error = reason),
    });
  }
}

/** The caller's handlers of one event. If one throws, the process emits a warning and the others are still called. */
class Handlers<T> {
  readonly #handlers = new Set<{ readonly handler: (value: T) => unknown }>();

  /** Returns the function that removes the handler. */
  add(handler: (value: T) => unknown): () => void {
    const added = { handler };
    this.#handlers.add(added);
    return () => void this.#handlers.delete(added);
  }

  call(value: T): void {
    for (const { handler } of this.#handlers) (async () => handler(value))().catch(warn);
  }
}

function warn(error: unknown): void {
  process.emitWarning(error instanceof Error ? error : String(error));
}
