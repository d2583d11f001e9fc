// Runs many histories on two stores at once: one that keeps its data when it is killed, and one that loses it.

import { mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { historyText } from "./history.ts";
import { violationsOf } from "./properties.ts";
import { runHistory } from "./run_history.ts";
import { startWorld, type World } from "./world.ts";

export type Outcome = {
  histories: number;
  writes: number;
  invalidations: number;
  resets: number;
  resumptions: number;
  /** How often each fault was part of a history. */
  faults: Record<string, number>;
  /** One text for each history that violates a property, with the path of its file. */
  failures: string[];
};

/** Retries, because the start may time out on an overloaded machine. */
async function anotherWorld(persistent: boolean, triesLeft = 5): Promise<World> {
  return startWorld({ persistent }).catch((error: unknown) => {
    if (triesLeft === 0) throw error;
    return anotherWorld(persistent, triesLeft - 1);
  });
}

/** Runs the histories of the seeds `first` to `first + count - 1`; even seeds lose the store's data when it is killed. */
export async function runHistories(first: number, count: number, onEach?: (done: Outcome) => void): Promise<Outcome> {
  const outcome: Outcome = {
    histories: 0,
    writes: 0,
    invalidations: 0,
    resets: 0,
    resumptions: 0,
    faults: {},
    failures: [],
  };

  async function lane(persistent: boolean): Promise<void> {
    let world = await startWorld({ persistent });
    try {
      for (let seed = first; seed < first + count; seed++) {
        if ((seed % 2 === 1) !== persistent) continue;
        await one(world, seed).catch(async (error: unknown) => {
          outcome.failures.push(`seed ${seed}: ${error instanceof Error ? error.stack : String(error)}`);
          // A history that fails in the middle of a fault leaves the fault in place, so the next ones need a new world.
          await world.close();
          world = await anotherWorld(persistent);
        });
      }
    } finally {
      await world.close();
    }
  }

  async function one(world: World, seed: number): Promise<void> {
    const history = await runHistory(world, seed);
    const streams = history.watchers.flatMap((watcher) => watcher.streams);
    const events = streams.flatMap((stream) => stream.events.map(({ event }) => event.case));
    outcome.histories++;
    outcome.writes += history.writes.length;
    outcome.invalidations += events.filter((event) => event === "invalidation").length;
    outcome.resets += events.filter((event) => event === "reset").length;
    outcome.resumptions += streams.filter(({ resumedFrom, events: { length } }) => resumedFrom && length > 0).length;
    for (const fault of history.faults) outcome.faults[fault] = (outcome.faults[fault] ?? 0) + 1;
    const violations = violationsOf(history);
    if (violations.length > 0) {
      const folder = join(tmpdir(), "session-authority-histories");
      mkdirSync(folder, { recursive: true });
      const file = join(folder, `${seed}.json`);
      writeFileSync(file, historyText(history, violations));
      const named = violations.slice(0, 5).join("\n  ");
      outcome.failures.push(
        `seed ${seed} (${history.faults.join("; ")}), ${violations.length} in ${file}:\n  ${named}`,
      );
    }
    onEach?.(outcome);
  }

  await Promise.all([lane(true), lane(false)]);
  return outcome;
}
