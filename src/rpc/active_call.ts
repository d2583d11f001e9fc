// One call from its admission to its end: its context, its deadline, and why it was aborted.

import type { CallContext, Principal } from "../domain/call.ts";
import { startTimeout } from "../lib/timeout.ts";

type ActiveCallOptions = {
  readonly principal: Principal;
  /** On the clock of performance.now(); Infinity for none. */
  readonly deadlineMs: number;
  /** Makes the abort reason when the deadline passes. */
  readonly deadlineError: () => Error;
  /** Is called once if the call is aborted, after its signal. */
  readonly onAbort?: (reason: Error) => void;
};

/** The context that a handler receives. Its AbortSignal is created only if the handler reads it. */
export class ActiveCall implements CallContext {
  readonly principal: Principal;
  readonly deadlineMs: number;
  readonly #onAbort: ActiveCallOptions["onAbort"];
  readonly #deadlineTimer: NodeJS.Timeout | undefined;
  #controller: AbortController | undefined;
  #abortReason: Error | undefined;
  #hasEnded = false;
  // A field instead of Promise.race: each race against a promise as long-lived as a stream would leave a reaction on it.
  #rejectWork: ((reason: Error) => void) | undefined;

  constructor({ principal, deadlineMs, deadlineError, onAbort }: ActiveCallOptions) {
    this.principal = principal;
    this.deadlineMs = deadlineMs;
    this.#onAbort = onAbort;
    if (deadlineMs !== Infinity) this.#deadlineTimer = startTimeout(deadlineMs, () => this.abort(deadlineError));
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#abortReason !== undefined) this.#controller.abort(this.#abortReason);
    return this.#controller.signal;
  }

  /** Settles as `work` does, or rejects with the abort reason if the call is aborted first. One at a time. */
  runUntilAborted<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#abortReason !== undefined) reject(this.#abortReason);
      this.#rejectWork = reject;
      work.then(resolve, reject);
    });
  }

  /** Ends the call from outside. Does nothing if it has ended. The reason is made only if it is needed. */
  abort(makeReason: () => Error): void {
    if (!this.end()) return;
    const reason = makeReason();
    this.#abortReason = reason;
    this.#controller?.abort(reason);
    this.#rejectWork?.(reason);
    this.#onAbort?.(reason);
  }

  /** Ends the call from inside. Returns false if it had ended before. */
  end(): boolean {
    if (this.#hasEnded) return false;
    this.#hasEnded = true;
    clearTimeout(this.#deadlineTimer);
    return true;
  }
}
