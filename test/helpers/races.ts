// Races: many rounds of rival calls, several at once, each round on a user of its own.

/** Runs `rounds` rounds, `lanes` of them at a time. The first failure ends it. */
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

/** Starts all calls in a random order, each after a random number of turns of the event loop; their outcomes. */
export async function rivals<T extends readonly (() => Promise<unknown>)[]>(
  ...calls: T
): Promise<{ [K in keyof T]: PromiseSettledResult<Awaited<ReturnType<T[K]>>> }> {
  const order = calls.map((call, index) => ({ call, index, at: Math.random() })).toSorted((a, b) => a.at - b.at);
  const outcomes: Promise<unknown>[] = [];
  for (const { call, index } of order) {
    const outcome = call();
    // It may fail before the last rival has started; allSettled tells of it.
    outcome.catch(() => undefined);
    outcomes[index] = outcome;
    for (let turns = Math.floor(Math.random() * 4); turns > 0; turns--) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  return (await Promise.allSettled(outcomes)) as never;
}

/** The value of a call that must have succeeded. */
export function valueOf<T>(outcome: PromiseSettledResult<T>): T {
  if (outcome.status === "rejected") throw outcome.reason;
  return outcome.value;
}
