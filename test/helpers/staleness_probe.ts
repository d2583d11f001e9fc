// The staleness probe: readers that hammer cached clients, and note every answer that came too late to be VALID.
//
// The rules, for a session whose end was acknowledged: no VALID is returned more than a lease later; a lookup that begins
// when memory is not safe is answered by the service alone, so it is never VALID; none is returned after a call with
// `barrier` has.

import { setTimeout as sleep } from "node:timers/promises";
import type { SessionClient } from "../../src/client/index.ts";

export const LEASE_MS = 3000;
/** For how long after its end a session is still asked for. */
const AFTERLIFE_MS = 8000;
const LOOKUPS_AT_ONCE = 12;

export type Subject = {
  readonly name: string;
  readonly lookUp: (client: SessionClient) => Promise<unknown>;
  /** When its end was acknowledged, on the clock of performance.now(). */
  endedMs?: number;
  /** When a call with `barrier` returned. */
  barrierMs?: number;
};

export type Probe = ReturnType<typeof startProbe>;

/** Reads until `stop` is called; `clients` are named after what happens to them. */
export function startProbe(clients: Record<string, SessionClient>) {
  const subjects: Subject[] = [];
  const violations: string[] = [];
  const counts = { valid: 0, invalid: 0, errors: 0, staleValid: 0, worstStaleMs: 0 };
  let stopping = false;

  async function lookUp(name: string, client: SessionClient, subject: Subject): Promise<void> {
    const startedMs = performance.now();
    const wasSafe = client.statistics().safeForMs > 0;
    let session: unknown;
    try {
      session = await subject.lookUp(client);
    } catch {
      counts.errors++;
      return;
    }
    const returnedMs = performance.now();
    if (session === undefined) return void counts.invalid++;
    counts.valid++;
    const { endedMs = Infinity, barrierMs = Infinity } = subject;
    if (returnedMs <= endedMs) return;
    counts.staleValid++;
    const staleMs = returnedMs - endedMs;
    counts.worstStaleMs = Math.max(counts.worstStaleMs, staleMs);
    const told = `${name}: ${subject.name} was VALID ${staleMs.toFixed(0)} ms after its end`;
    if (staleMs > LEASE_MS) violations.push(`${told}: later than a lease`);
    if (!wasSafe && startedMs > endedMs) violations.push(`${told}: and memory was not safe`);
    if (returnedMs > barrierMs) violations.push(`${told}: and after the barrier`);
  }

  async function read(name: string, client: SessionClient): Promise<void> {
    while (!stopping) {
      const oldestMs = performance.now() - AFTERLIFE_MS;
      const asked = subjects.filter(({ endedMs = Infinity }) => endedMs > oldestMs);
      const chosen = Array.from({ length: LOOKUPS_AT_ONCE }, () => asked[Math.floor(Math.random() * asked.length)]);
      // Not awaited: lookups that hang in a fault do not keep the others from asking.
      for (const subject of chosen) if (subject !== undefined) void lookUp(name, client, subject);
      await sleep(5);
    }
  }

  const readers = Object.entries(clients).map(([name, client]) => read(name, client));

  return {
    counts,
    violations,
    add(subject: Subject): Subject {
      subjects.push(subject);
      return subject;
    },
    async stop(): Promise<void> {
      stopping = true;
      await Promise.all(readers);
    },
  };
}
