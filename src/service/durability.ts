// How durable the end of a session is before its caller gets a response.

import type { Durability } from "../../gen/session/v1/session_pb.ts";
import type { CallContext } from "../domain/call.ts";
import { SessionError } from "../domain/errors.ts";
import type { Replication } from "../store/replication.ts";
import { durationToMs } from "../lib/duration.ts";

const DEFAULT_TIMEOUT_MS = 1_000;
const RETRY_AFTER_MS = 1_000;

export type DurabilityDependencies = {
  readonly replication: Replication;
  /** How many replicas must have an end if the request does not say. */
  readonly defaults: { readonly revokeMinReplicas: number };
};

/**
 * Waits until as many replicas as the request or else the server asks for have the changes of a partition. Returns their number;
 * 0 if none are asked for, and if `partition` is undefined, because no session can have the id.
 * @throws SessionError NOT_REPLICATED if too few have them in time; those of StoreConnection.send.
 */
export async function awaitReplicas(
  { replication, defaults }: DurabilityDependencies,
  partition: number | undefined,
  durability: Durability | undefined,
  call: CallContext,
): Promise<number> {
  const minReplicas = durability?.minReplicas ?? defaults.revokeMinReplicas;
  if (minReplicas === 0 || partition === undefined) return 0;
  const timeoutMs = durationToMs(durability?.timeout) ?? DEFAULT_TIMEOUT_MS;
  const inTimeMs = Math.max(1, Math.min(timeoutMs, call.deadlineMs - performance.now()));
  const count = await replication.reached(partition, minReplicas, inTimeMs, call);
  if (count >= minReplicas) return count;
  const message = `the session has ended, but ${count} of ${minReplicas} replicas have that`;
  throw new SessionError("NOT_REPLICATED", message, { retryAfterMs: RETRY_AFTER_MS });
}
