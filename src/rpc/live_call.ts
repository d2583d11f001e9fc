// One call from its admission to its end: its context, its deadline, and what cuts it short.

import type { CallContext, Caller } from "../domain/call.ts";
import type { Deadlines } from "../domain/deadlines.ts";

export type LiveCall = {
  /** What the handler gets. Its signal costs nothing until it is asked for. */
  readonly context: CallContext;
  /** What `work` comes to, or the interruption if that is sooner. One at a time. */
  race<T>(work: Promise<T>): Promise<T>;
  /** Ends the call from outside; only the first time counts, and not once it has ended. */
  interrupt(error: Error): void;
  /** Ends the call from inside. False when it had ended before. */
  end(): boolean;
};

type LiveCallOptions = {
  caller: Caller;
  /** On the clock of performance.now(); Infinity for none. */
  deadlineMs: number;
  deadlines: Deadlines;
  /** What the call is interrupted with when its deadline passes. */
  deadlineError: () => Error;
  /** Called once if the call is interrupted, after its signal was aborted. */
  onInterrupt?: (error: Error) => void;
};

export function beginCall(options: LiveCallOptions): LiveCall {
  const { caller, deadlineMs, deadlines, deadlineError, onInterrupt } = options;
  let controller: AbortController | undefined;
  let interruption: Error | undefined;
  let ended = false;
  // A slot instead of Promise.race: racing a promise that lives as long as a stream would keep every message's reaction.
  let rejectWork: ((error: Error) => void) | undefined;

  const stopDeadline =
    deadlineMs === Infinity ? () => undefined : deadlines.add(deadlineMs, () => interrupt(deadlineError()));

  function interrupt(error: Error): void {
    if (ended) return;
    ended = true;
    interruption = error;
    stopDeadline();
    controller?.abort(error);
    rejectWork?.(error);
    onInterrupt?.(error);
  }

  return {
    context: {
      caller,
      deadlineMs,
      get signal() {
        controller ??= new AbortController();
        if (interruption !== undefined) controller.abort(interruption);
        return controller.signal;
      },
    },
    race(work) {
      return new Promise((resolve, reject) => {
        if (interruption !== undefined) reject(interruption);
        rejectWork = reject;
        work.then(resolve, reject);
      });
    },
    interrupt,
    end() {
      if (ended) return false;
      ended = true;
      stopDeadline();
      return true;
    },
  };
}
