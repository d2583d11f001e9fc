// Ends every wait for the store by the caller's deadline, or when the caller has gone, whatever the store does.

import type { CallDeadline } from "../../domain/call.ts";
import type { Deadlines, Expiring } from "../../lib/deadlines.ts";
import { SessionError } from "../../domain/errors.ts";
import { storeError, storeTimeout } from "./errors.ts";

/** A signal is looked at only for waits that outlive one tick, because making it costs more than a command. */
const CANCELLATION_TICK_MS = 20;

type Wait = Expiring & {
  readonly call: CallDeadline;
  readonly end: (error: Error) => void;
  unwatch: (() => void) | undefined;
};

export type CallLimiter = {
  /** The reply, or the error that ends the wait for it first. A late reply is swallowed. */
  limit<Reply>(call: CallDeadline, reply: Promise<Reply>): Promise<Reply>;
  /** How many waits are open; for tests and metrics. */
  readonly size: number;
};

export function createCallLimiter(deadlines: Deadlines): CallLimiter {
  // Waits whose signal is not watched yet.
  const fresh = new Set<Wait>();
  let size = 0;
  let ticking = false;

  function watchSignals(): void {
    ticking = false;
    for (const wait of fresh) {
      fresh.delete(wait);
      const { signal } = wait.call;
      const onAbort = (): void => wait.end(abortError(signal.reason));
      if (signal.aborted) {
        onAbort();
        continue;
      }
      signal.addEventListener("abort", onAbort, { once: true });
      wait.unwatch = () => signal.removeEventListener("abort", onAbort);
    }
  }

  return {
    limit(call, reply) {
      return new Promise((resolve, reject) => {
        size++;
        const wait: Wait = {
          call,
          deadlineMs: call.deadlineMs,
          onDeadline: () => end(storeTimeout()),
          end,
          unwatch: undefined,
        };
        let open = true;
        function close(): boolean {
          if (!open) return false;
          open = false;
          size--;
          deadlines.remove(wait);
          fresh.delete(wait);
          wait.unwatch?.();
          return true;
        }
        function end(error: Error): void {
          if (close()) reject(error);
        }
        deadlines.add(wait);
        fresh.add(wait);
        if (!ticking) {
          ticking = true;
          setTimeout(watchSignals, CANCELLATION_TICK_MS).unref();
        }
        reply.then(
          (value) => {
            if (close()) resolve(value);
          },
          (error) => end(storeError(error)),
        );
      });
    },
    get size() {
      return size;
    },
  };
}

/** gRPC's number of DEADLINE_EXCEEDED, which both of its implementations put on their errors. */
const GRPC_DEADLINE_EXCEEDED = 4;

/** Why a caller's signal was aborted: its deadline passed, or it is gone. */
export function abortError(reason: unknown): SessionError {
  if (reason instanceof SessionError) return reason;
  const { name, code } = (typeof reason === "object" && reason !== null ? reason : {}) as Record<string, unknown>;
  return name === "TimeoutError" || code === GRPC_DEADLINE_EXCEEDED
    ? new SessionError("DEADLINE_EXCEEDED", "the deadline of the call has passed")
    : new SessionError("CANCELLED", "the caller cancelled the call");
}
