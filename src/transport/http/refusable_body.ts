// The body of a request that fails from outside, for example when it takes too long to arrive.

export class RefusableBody implements AsyncIterable<Uint8Array> {
  readonly #body: AsyncIterable<Uint8Array>;
  #failure: Error | undefined;
  // A field instead of Promise.race: each race against a promise as long-lived as a stream would leave a reaction on it.
  #rejectNext: ((failure: Error) => void) | undefined;

  constructor(body: AsyncIterable<Uint8Array>) {
    this.#body = body;
  }

  /** Fails the chunk that is awaited, or the next one. */
  refuse(failure: Error): void {
    this.#failure = failure;
    this.#rejectNext?.(failure);
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    const chunks = this.#body[Symbol.asyncIterator]();
    return {
      next: () =>
        new Promise((resolve, reject) => {
          if (this.#failure !== undefined) return reject(this.#failure);
          this.#rejectNext = reject;
          chunks.next().then(resolve, reject);
        }),
      return: async () => (await chunks.return?.()) ?? { done: true, value: undefined },
    };
  }
}
