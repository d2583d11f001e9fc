// Runs many rounds of rival calls, several rounds at a time.

/** Runs `rounds` rounds, `lanes` of them at a time, and stops at the first failure. @throws an error that names the round. */
export async function race(rounds: number, round: (index: number) => Promise<void>, lanes = 24): Promise<void> {
  let next = 0;
  const lane = async () => {
    while (next < rounds) {
      const index = next++;
      try {
        await round(index);
      } catch (error) {
        next = rounds;
        throw new Error(`round ${index}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
      }
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}

/** Starts the calls in random order, with random pauses of up to 3 turns of the event loop. Returns their outcomes. */
export async function rivals<T extends readonly (() => Promise<unknown>)[]>(
  ...calls: T
): Promise<{ [K in keyof T]: PromiseSettledResult<Awaited<ReturnType<T[K]>>> }> {
  const order = calls.map((call, index) => ({ call, index, at: Math.random() })).toSorted((a, b) => a.at - b.at);
  const outcomes: Promise<unknown>[] = [];
  for (const { call, index } of order) {
    const outcome = call();
    // It may reject before the last call has started. allSettled reports it.
    outcome.catch(() => undefined);
    outcomes[index] = outcome;
    for (let turns = Math.floor(Math.random() * 4); turns > 0; turns--) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  return (await Promise.allSettled(outcomes)) as never;
}

/** Returns the value of a call. @throws the call's error if it failed. */
export function valueOf<T>(outcome: PromiseSettledResult<T>): T {
  if (outcome.status === "rejected") throw outcome.reason;
  return outcome.value;
}
