// The client's watch: passes what the watch loop receives to the cache and to the caller's handlers.

import type { Invalidation } from "../../gen/session/v1/watch_pb.ts";
import type { SessionCache } from "./cache.ts";
import type { ServiceConnection } from "./connection.ts";
import type { startWatchLoop } from "./watch_loop.ts";

type Handlers<T> = Set<(value: T) => void>;

export class ClientWatch {
  readonly #connection: ServiceConnection;
  readonly #cache: SessionCache | undefined;
  readonly #startLoop: typeof startWatchLoop;
  readonly #invalidationHandlers: Handlers<Invalidation> = new Set();
  readonly #resetHandlers: Handlers<void> = new Set();
  // Called with each lease, and when the client is closed.
  readonly #leaseWaiters = new Set<() => void>();
  #error: string | undefined;
  #isClosed = false;
  #stopLoop: (() => void) | undefined;

  /** With a cache the watch starts at once; without one, with the first handler. */
  constructor(connection: ServiceConnection, cache: SessionCache | undefined, startLoop: typeof startWatchLoop) {
    this.#connection = connection;
    this.#cache = cache;
    this.#startLoop = startLoop;
    if (cache !== undefined) this.#start();
  }

  onInvalidated(handler: (invalidation: Invalidation) => void): () => void {
    return this.#add(this.#invalidationHandlers, handler);
  }

  onReset(handler: () => void): () => void {
    return this.#add(this.#resetHandlers, handler);
  }

  /** Resolves when the cache has a lease. Rejects with the reason after `timeoutMs`, and when the client is closed. */
  waitForLease(cache: SessionCache, timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = () => {
        clearTimeout(timer);
        this.#leaseWaiters.delete(settle);
        if (cache.safeForMs > 0) resolve();
        else reject(new Error(`the client cannot serve from memory: ${this.#error ?? "it got no lease yet"}`));
      };
      const timer = setTimeout(settle, timeoutMs);
      this.#leaseWaiters.add(settle);
      if (cache.safeForMs > 0 || this.#isClosed) settle();
    });
  }

  /** Why the stream broke last; undefined once a lease was granted since. */
  get error(): string | undefined {
    return this.#error;
  }

  /** A handler that is added later does not start the watch again. */
  close(): void {
    this.#isClosed = true;
    this.#error = "the client is closed";
    this.#stopLoop?.();
    this.#cache?.clear();
    for (const waiter of this.#leaseWaiters) waiter();
  }

  #start(): void {
    if (this.#isClosed) return;
    this.#stopLoop ??= this.#startLoop(this.#connection, {
      onInvalidation: (invalidation) => {
        this.#cache?.invalidate(invalidation.sessionId);
        for (const handler of this.#invalidationHandlers) handler(invalidation);
      },
      onReset: (partition) => {
        if (partition === undefined) this.#cache?.clear();
        else this.#cache?.clearPartition(partition);
        for (const handler of this.#resetHandlers) handler();
      },
      onLease: (untilMs) => {
        this.#error = undefined;
        this.#cache?.extendLease(untilMs);
        for (const waiter of this.#leaseWaiters) waiter();
      },
      onBroken: (reason) => void (this.#error = reason),
    });
  }

  #add<T>(handlers: Handlers<T>, handler: (value: T) => unknown): () => void {
    this.#start();
    // If a handler throws, the process emits a warning and the others are still called.
    const added = (value: T) => void (async () => handler(value))().catch(warn);
    handlers.add(added);
    return () => void handlers.delete(added);
  }
}

function warn(error: unknown): void {
  process.emitWarning(error instanceof Error ? error : String(error));
}
