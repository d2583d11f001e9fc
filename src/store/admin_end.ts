// Ends sessions of many users: each only if it is still as the caller has seen it.

import type { CallContext } from "../domain/call.ts";
import { ownerPrefixOf } from "../domain/owner.ts";
import { partitionOfSessionId } from "../domain/session_id.ts";
import { auditArgs, type StoreDependencies } from "./dependencies.ts";
import { partitionKeys } from "./keys.ts";
import { readUserSessions } from "./session_lists.ts";
import { SessionRecord } from "./session_record.ts";
import type { Justification } from "./simple_sessions.ts";

/** How the sessions end: with the reason `revoked`. `revocationReason` is what the caller gives, in lower case, or empty. */
export type AdminEnd = Justification & { readonly tenant: string; readonly revocationReason: string };

/** What happened to sessions that were to end. */
export type AdminEndResult = {
  readonly endedCount: number;
  /** The present records of sessions that have changed, or that have another id since a regeneration. They live on. */
  readonly changed: readonly SessionRecord[];
};

/** Less than the time between two creates, and more than the precision of a time. */
const BEFORE_MS = 0.0005;

export type AdminEndStore = ReturnType<typeof createAdminEndStore>;

export function createAdminEndStore({ connection, scripts, settings }: StoreDependencies) {
  /** Ends sessions of one partition. Keep them few: the store is blocked meanwhile. Works with full memory. */
  async function end(records: readonly SessionRecord[], how: AdminEnd, call: CallContext): Promise<AdminEndResult> {
    const [retention, by] = auditArgs(settings, call, how.actor);
    const sessions = records.flatMap((record) => [record.sessionId, record.fingerprint]);
    const args = [ownerPrefixOf(how.tenant), how.revocationReason, retention, by, how.note, ...sessions];
    const keys = [...partitionKeys(partitionOfSessionId(records[0]!.sessionId)!)];
    const { values } = await scripts.run("admin_sessions_end", keys, args, call);
    let endedCount = 0;
    const changed: SessionRecord[] = [];
    for (const [i, value] of values.entries()) {
      if (Buffer.isBuffer(value)) changed.push(new SessionRecord(records[i]!.sessionId, value));
      else if (Number(value) === 1) endedCount++;
      else changed.push(...(await successors(records[i]!, call)));
    }
    return { endedCount, changed };
  }

  /** Returns the session that a regeneration has given another id: the one of the same user and time of creation. */
  async function successors({ owner, createdExactMs, sessionId }: SessionRecord, call: CallContext) {
    const after = createdExactMs - BEFORE_MS;
    const { sessions } = await readUserSessions(
      scripts,
      owner,
      { which: "all", order: "oldest", after, pageSize: 1 },
      call,
    );
    const records = sessions.map(({ record }) => record);
    return records.filter((record) => record.createdExactMs === createdExactMs && record.sessionId !== sessionId);
  }

  /** Returns the store's time in ms, with its microseconds as a fraction. */
  async function now(call: CallContext): Promise<number> {
    const [seconds, microseconds] = (await connection.send(partitionKeys(0)[0], ["TIME"], call)) as Buffer[];
    return Number(seconds) * 1000 + Number(microseconds) / 1000;
  }

  return { end, now };
}
