// A stream whose producer writes each message by a function call. A stream handler yields one to hand over all further
// responses: an async iterator would cost a promise for each message.

/**
 * Starts to produce, and returns `drain`, which the consumer calls whenever it has room again.
 * `write` always takes the message; if it returns false, the producer writes no more until `drain` is called.
 * `end` completes the stream, or fails it with an error. A stream that never calls it ends with the call.
 */
export type PushStream<T> = (write: (message: T) => boolean, end: (error?: unknown) => void) => () => void;

/** Distinguishes a push stream from a message, which is never a function. */
export function isPushStream<T extends object>(step: T | PushStream<T>): step is PushStream<T> {
  return typeof step === "function";
}

/** Pushes what the iterable yields. */
export function fromAsyncIterable<T>(source: AsyncIterable<T>): PushStream<T> {
  return (write, end) => {
    let wake: (() => void) | undefined;
    async function writeAll(): Promise<void> {
      for await (const next of source) if (!write(next)) await new Promise<void>((resolve) => (wake = resolve));
    }
    writeAll().then(
      () => end(),
      (error: unknown) => end(error ?? new Error("the source failed")),
    );
    return () => wake?.();
  };
}

/** Yields the messages one at a time. The producer may write one more each time that one has been consumed. */
export async function* toAsyncIterable<T>(stream: PushStream<T>): AsyncGenerator<T, void, void> {
  const queue: T[] = [];
  let ended: { error?: unknown } | undefined;
  let wake: (() => void) | undefined;
  const drain = stream(
    (message) => {
      queue.push(message);
      wake?.();
      return false;
    },
    (error) => {
      ended ??= { error };
      wake?.();
    },
  );
  for (;;) {
    const next = queue.shift();
    if (next !== undefined) {
      yield next;
      drain();
    } else if (ended === undefined) {
      await new Promise<void>((resolve) => (wake = resolve));
    } else if (ended.error === undefined) {
      return;
    } else {
      throw ended.error;
    }
  }
}
