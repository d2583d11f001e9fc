// The staleness probe: readers that look up sessions in cached clients all the time, and record every stale response.
//
// The rules for a session whose end was acknowledged: no lookup returns it more than a lease later; no lookup returns it that
// began while the cache was not safe, because then the service decides; and none returns it after a call with `barrier`
// returned.

import { setTimeout as sleep } from "node:timers/promises";
import type { SessionClient } from "../../src/client/index.ts";

export const LEASE_MS = 3000;
/** How long a session is still looked up after its end. */
const AFTERLIFE_MS = 8000;
const LOOKUPS_AT_ONCE = 12;

export type Subject = {
  readonly name: string;
  readonly lookUp: (client: SessionClient) => Promise<unknown>;
  /** When the end of the session was acknowledged, on the clock of performance.now(). */
  endedMs?: number;
  /** When a call with `barrier` returned. */
  barrierMs?: number;
};

export type Probe = ReturnType<typeof startProbe>;

/** Looks up sessions until `stop` is called; the names of the clients appear in the violations. */
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
    const stale = `${name}: ${subject.name} was VALID ${staleMs.toFixed(0)} ms after its end`;
    if (staleMs > LEASE_MS) violations.push(`${stale}: later than a lease`);
    if (!wasSafe && startedMs > endedMs) violations.push(`${stale}: and the cache was not safe`);
    if (returnedMs > barrierMs) violations.push(`${stale}: and after the barrier`);
  }

  async function read(name: string, client: SessionClient): Promise<void> {
    while (!stopping) {
      const oldestMs = performance.now() - AFTERLIFE_MS;
      const current = subjects.filter(({ endedMs = Infinity }) => endedMs > oldestMs);
      const chosen = Array.from({ length: LOOKUPS_AT_ONCE }, () => current[Math.floor(Math.random() * current.length)]);
      // Not awaited, so that lookups that hang during a fault do not delay the others.
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
