// The recovery after a failover: a new primary may lack the last changes that the old one acknowledged. Each instance remembers
// the ends of sessions that it has seen in the last minute, and ends those sessions again before it is ready.

import type { Logger } from "pino";
import { PARTITION_COUNT } from "../domain/owner.ts";
import { partitionOfSessionId } from "../domain/session_id.ts";
import type { NewNode } from "./connection/router.ts";
import { doneByArg } from "./dependencies.ts";
import { partitionKeys, sessionScriptKeys } from "./keys.ts";
import { createScripts } from "./scripts.ts";
import type { Change } from "./watch_change_log.ts";

/** Longer than a replica lags behind, or is looked for. */
const REMEMBERED_MS = 60_000;
/** Bounds the memory: at 100 bytes each, 20 MB. The oldest are forgotten first. */
const MAX_REMEMBERED = 200_000;
const CONCURRENT_SCRIPTS = 200;
const SCRIPT_TIMEOUT_MS = 5_000;
/** All other changes end a session that must not come back. A timeout needs no memory: the record has its deadline. */
const NO_ENDS = new Set(["created", "changed", "expired", "absolute_timeout"]);

type End = Pick<Change, "sessionId" | "owner" | "reason" | "revocationReason" | "principal" | "actor"> & {
  readonly seenMs: number;
};

export type RecoveryOptions = {
  readonly auditRetentionMs: number;
  /** Whether the store takes a `#!lua` line, which is not known yet at the first connection. */
  readonly shebang: () => boolean;
  readonly log: Logger;
};

export type Recovery = ReturnType<typeof createRecovery>;

export function createRecovery({ auditRetentionMs, shebang, log }: RecoveryOptions) {
  // In the order in which they were seen.
  const ends = new Map<string, End>();
  /** The process that last served each partition. */
  const runIds: string[] = Array.from({ length: PARTITION_COUNT }, () => "");

  /** Remembers a change if it ends a session. */
  function remember(change: Change): void {
    if (NO_ENDS.has(change.reason)) return;
    const { sessionId, owner, reason, revocationReason, principal, actor } = change;
    const nowMs = performance.now();
    ends.delete(sessionId);
    ends.set(sessionId, { sessionId, owner, reason, revocationReason, principal, actor, seenMs: nowMs });
    for (const [id, { seenMs }] of ends) {
      if (seenMs > nowMs - REMEMBERED_MS && ends.size <= MAX_REMEMBERED) break;
      ends.delete(id);
    }
  }

  /** Ends again what a node lacks of the partitions that another process served before. Rejects if the node does not reply. */
  async function recover(node: NewNode): Promise<void> {
    const runId = await runIdOf(node);
    const partitions = new Set([...runIds.keys()].filter((partition) => node.serves(partitionKeys(partition)[0])));
    const isChanged = (partition: number) => runId === "" || runIds[partition] !== runId;
    const fromMs = performance.now() - REMEMBERED_MS;
    const lost = [...ends.values()].filter(({ sessionId, seenMs }) => {
      const partition = partitionOfSessionId(sessionId)!;
      return seenMs > fromMs && partitions.has(partition) && isChanged(partition);
    });
    // Most connections have nothing to apply, and need no scripts.
    const reapplied = lost.length === 0 ? 0 : await reapplyAll(node, lost);
    for (const partition of partitions) runIds[partition] = runId;
    if (reapplied > 0) log.warn({ sessions: reapplied }, "ended sessions again whose ends the new primary had lost");
  }

  async function reapplyAll(node: NewNode, lost: readonly End[]): Promise<number> {
    const scripts = createScripts({ connection: { send: (_key, args) => node.send(args) }, shebang: shebang() });
    const { signal } = new AbortController();
    let reapplied = 0;
    for (let i = 0; i < lost.length; i += CONCURRENT_SCRIPTS) {
      const call = { deadlineMs: performance.now() + SCRIPT_TIMEOUT_MS, signal };
      const outcomes = await Promise.all(
        lost.slice(i, i + CONCURRENT_SCRIPTS).map((end) => {
          const { sessionId, owner, reason, revocationReason } = end;
          const args = [sessionId, owner, reason, revocationReason, String(auditRetentionMs), doneByArg(end)];
          return scripts.run("recovery_reapply_end", sessionScriptKeys(sessionId)!, args, call, ["not_found"]);
        }),
      );
      reapplied += outcomes.filter(({ outcome }) => outcome === "ok").length;
    }
    return reapplied;
  }

  return { remember, recover };
}

/** Returns the id of the node's process; empty if the store's user may not ask for it. */
async function runIdOf(node: NewNode): Promise<string> {
  const info = await node.send(["INFO", "server"]).catch(() => "");
  return /^run_id:(\w+)/m.exec(String(info))?.[1] ?? "";
}
