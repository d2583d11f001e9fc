// A linearizability checker: is there an order of the operations, each at one instant between its call and its return, in
// which the model gives the same results? The search is that of Wing and Gong, with the states seen before left out (Lowe).

/** One operation of a history. Times are of one monotonic clock. */
export type Operation<Op, Result> = {
  readonly op: Op;
  readonly calledMs: number;
  /** Infinity if the outcome is unknown: the operation took effect at any time after its call, or never. */
  readonly returnedMs: number;
  /** Undefined if the outcome is unknown. */
  readonly result: Result | undefined;
};

export type Model<State, Op, Result> = {
  readonly initial: State;
  /** Returns the state after an operation and its result. */
  readonly apply: (state: State, op: Op) => { readonly state: State; readonly result: Result };
  /** Returns true if the two results are the same. */
  readonly isSame: (expected: Result, actual: Result) => boolean;
  /** Equal for equal states. */
  readonly keyOf: (state: State) => string;
};

/** Returns true if the history is linearizable. Every operation whose outcome is known must be in the order. */
export function isLinearizable<State, Op, Result>(
  model: Model<State, Op, Result>,
  history: readonly Operation<Op, Result>[],
): boolean {
  const operations = history.toSorted((a, b) => a.calledMs - b.calledMs);
  const seen = new Set<string>();
  const isDone = operations.map(() => false);
  let openKnown = operations.filter(({ result }) => result !== undefined).length;

  function search(state: State): boolean {
    if (openKnown === 0) return true;
    const key = `${isDone.map(Number).join("")} ${model.keyOf(state)}`;
    if (seen.has(key)) return false;
    seen.add(key);
    // An operation can only come next if no other one has returned before it was called.
    let earliestReturnMs = Infinity;
    for (const [i, { returnedMs }] of operations.entries()) {
      if (!isDone[i]) earliestReturnMs = Math.min(earliestReturnMs, returnedMs);
    }
    for (const [i, { op, calledMs, result }] of operations.entries()) {
      if (isDone[i] || calledMs > earliestReturnMs) continue;
      const next = model.apply(state, op);
      if (result !== undefined && !model.isSame(next.result, result)) continue;
      isDone[i] = true;
      if (result !== undefined) openKnown--;
      if (search(next.state)) return true;
      if (result !== undefined) openKnown++;
      isDone[i] = false;
    }
    return false;
  }

  return search(model.initial);
}
