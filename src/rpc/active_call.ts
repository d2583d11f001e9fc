// One call from its admission to its end: its context, its deadline, and what cuts it short.

import type { CallContext, Principal } from "../domain/call.ts";
import type { Deadlines, Expiring } from "../lib/deadlines.ts";

type LiveCallOptions = {
  principal: Principal;
  /** On the clock of performance.now(); Infinity for none. */
  deadlineMs: number;
  deadlines: Deadlines;
  /** What the call is interrupted with when its deadline passes. */
  deadlineError: () => Error;
  /** Called once if the call is interrupted, after its signal was aborted. */
  onInterrupt?: (error: Error) => void;
};

/** It is the context that the handler gets; its signal costs nothing until it is asked for. */
export class ActiveCall implements CallContext, Expiring {
  readonly principal: Principal;
  readonly deadlineMs: number;
  readonly #onInterrupt: ((error: Error) => void) | undefined;
  readonly #deadlines: Deadlines;
  readonly #deadlineError: () => Error;
  #controller: AbortController | undefined;
  #interruption: Error | undefined;
  #ended = false;
  // A slot instead of Promise.race: racing a promise that lives as long as a stream would keep every message's reaction.
  #rejectWork: ((error: Error) => void) | undefined;

  constructor({ principal, deadlineMs, deadlines, deadlineError, onInterrupt }: LiveCallOptions) {
    this.principal = principal;
    this.deadlineMs = deadlineMs;
    this.#onInterrupt = onInterrupt;
    this.#deadlines = deadlines;
    this.#deadlineError = deadlineError;
    if (deadlineMs !== Infinity) deadlines.add(this);
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#interruption !== undefined) this.#controller.abort(this.#interruption);
    return this.#controller.signal;
  }

  /** What `work` comes to, or the interruption if that is sooner. One at a time. */
  runUntilAborted<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#interruption !== undefined) reject(this.#interruption);
      this.#rejectWork = reject;
      work.then(resolve, reject);
    });
  }

  onDeadline(): void {
    this.abort(this.#deadlineError);
  }

  /** Ends the call from outside; only the first time counts, and not once it has ended. The error is made only then. */
  abort(errorOf: () => Error): void {
    if (this.#ended) return;
    this.#ended = true;
    const error = errorOf();
    this.#interruption = error;
    this.#stopDeadline();
    this.#controller?.abort(error);
    this.#rejectWork?.(error);
    this.#onInterrupt?.(error);
  }

  /** Ends the call from inside. False when it had ended before. */
  end(): boolean {
    if (this.#ended) return false;
    this.#ended = true;
    this.#stopDeadline();
    return true;
  }
  #stopDeadline(): void {
    if (this.deadlineMs !== Infinity) this.#deadlines.remove(this);
  }
}
