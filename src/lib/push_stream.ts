// A feed: what a stream handler yields when from now on its answers are pushed, so that one costs a call and no promise.

/**
 * Begins to send, and returns what is to be called whenever there is room again. `send` takes the answer in any case; when
 * it says false there is no room for another one until then. `end` says that nothing follows, or what went wrong; a feed that
 * never calls it ends with the call.
 */
export type PushStream<T> = (send: (answer: T) => boolean, end: (error?: unknown) => void) => () => void;

export function isPushStream<T extends object>(step: T | PushStream<T>): step is PushStream<T> {
  return typeof step === "function";
}

/** What an iterable gives, as a feed. */
export function fromAsyncIterable<T>(source: AsyncIterable<T>): PushStream<T> {
  return (send, end) => {
    let wake: (() => void) | undefined;
    async function sendAll(): Promise<void> {
      for await (const next of source) if (!send(next)) await new Promise<void>((resolve) => (wake = resolve));
    }
    sendAll().then(
      () => end(),
      (error: unknown) => end(error ?? new Error("the source failed")),
    );
    return () => wake?.();
  };
}

/** The answers of a feed one at a time, as they are asked for. */
export async function* toAsyncIterable<T>(feed: PushStream<T>): AsyncGenerator<T, void, void> {
  const waiting: T[] = [];
  let ended: { error?: unknown } | undefined;
  let wake: (() => void) | undefined;
  const resume = feed(
    (answer) => {
      waiting.push(answer);
      wake?.();
      return false;
    },
    (error) => {
      ended ??= { error };
      wake?.();
    },
  );
  for (;;) {
    const next = waiting.shift();
    if (next !== undefined) {
      yield next;
      resume();
    } else if (ended === undefined) {
      await new Promise<void>((resolve) => (wake = resolve));
    } else if (ended.error === undefined) {
      return;
    } else {
      throw ended.error;
    }
  }
}
