// Ends sessions of many users: each only if it still meets a filter.

import type { CallContext } from "../domain/call.ts";
import { partitionOfSessionId } from "../domain/session_id.ts";
import { asBuffer, auditArgs, type StoreDependencies } from "./dependencies.ts";
import { partitionKeys } from "./keys.ts";
import type { SessionRecord } from "./session_record.ts";
import type { Justification } from "./simple_sessions.ts";

/** How the sessions end: with the reason `revoked`. `revocationReason` is what the caller gives, in lower case, or empty. */
export type AdminEnd = Justification & { readonly revocationReason: string };

/** The conditions that a change of a session can affect. */
export type ChangeableConditions = {
  /** Unset: from the beginning. */
  readonly accessedFromMs: number | undefined;
  /** Exclusive. Unset: without an end. */
  readonly accessedUntilMs: number | undefined;
  /** As the contract numbers it; 0 for any. */
  readonly deviceType: number;
  /** Each an encoded session.v1.Session that has only this label. */
  readonly labels: readonly Uint8Array[];
};

export type AdminEndStore = ReturnType<typeof createAdminEndStore>;

export function createAdminEndStore({ connection, scripts, settings }: StoreDependencies) {
  /**
   * Ends sessions of one partition that still meet the conditions; returns how many. One that was regenerated ends under its
   * present id. Keep them few: the store is blocked meanwhile. Works with full memory.
   */
  async function end(
    records: readonly SessionRecord[],
    conditions: ChangeableConditions,
    { revocationReason, actor, note }: AdminEnd,
    call: CallContext,
  ): Promise<number> {
    const { accessedFromMs = 0, accessedUntilMs = Number.MAX_SAFE_INTEGER, deviceType, labels } = conditions;
    const args = [
      ...[revocationReason, ...auditArgs(settings, call, actor), note],
      ...[accessedFromMs, accessedUntilMs, deviceType, labels.length].map(String),
      ...labels.map(asBuffer),
      ...records.flatMap(({ sessionId, owner, createdExactMs }) => [sessionId, owner, String(createdExactMs)]),
    ];
    const keys = [...partitionKeys(partitionOfSessionId(records[0]!.sessionId)!)];
    const { values } = await scripts.run("admin_sessions_end", keys, args, call);
    return Number(values[0]);
  }

  /** Returns the store's time in ms, with its microseconds as a fraction. */
  async function now(call: CallContext): Promise<number> {
    const [seconds, microseconds] = (await connection.send(partitionKeys(0)[0], ["TIME"], call)) as Buffer[];
    return Number(seconds) * 1000 + Number(microseconds) / 1000;
  }

  return { end, now };
}
