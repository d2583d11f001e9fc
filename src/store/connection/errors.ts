// Turns failures of the store into the errors of callers: the only place that reads the errors of node-redis and of the store.

import { ErrorReply } from "redis";
import { SessionError } from "../../domain/errors.ts";

/** The retry hint of failures that a reconnect cures. */
const RETRY_AFTER_MS = 250;

/** What a script gets for a command that the store's user has no right to, from Redis 7, and from Redis 8 and Valkey 8. */
const NO_PERMISSION_IN_SCRIPT = /The user executing the script can't |ACL failure in script: /;

/** An error reply that no caller can act on: a defect, or a misconfigured store. `code` is its first word. */
export class StoreReplyError extends Error {
  override readonly name = "StoreReplyError";
  readonly code: string;
  /** The unchanged reply, which may repeat arguments: for logs only. */
  readonly reply: string;

  constructor(reply: string) {
    super(`the store refused a command: ${reply}`);
    this.reply = reply;
    this.code = NO_PERMISSION_IN_SCRIPT.test(reply) ? "NOPERM" : (/^[A-Z][A-Z0-9_]*/.exec(reply)?.[0] ?? "ERR");
  }
}

/** What a script gets for a key of a slot that the node gives away or receives; the second text is that of newer stores. */
const SLOT_MOVES =
  /^ERR (Script attempted to access a non local key|Unable to execute command '\S+' in script because undeclared keys were)/;

/** What a script gets if its node has lost the cluster. */
const CLUSTER_DOWN_IN_SCRIPT = /^ERR Script attempted to execute a (write )?command while the cluster is down/;

/** Error replies of a store that cannot execute the command now, or not on this node: it had no effect. */
const UNAVAILABLE_CODES = /^(LOADING|MASTERDOWN|READONLY|CLUSTERDOWN|TRYAGAIN|BUSY|MISCONF|NOREPLICAS|MOVED|ASK)$/;

/** Turns anything that a client of node-redis rejects with into the error that StoreConnection.send throws. */
export function storeError(error: unknown): Error {
  if (error instanceof SessionError || error instanceof StoreReplyError) return error;
  if (error instanceof ErrorReply) {
    const reply = new StoreReplyError(error.message);
    if (reply.code === "OOM")
      return new SessionError("STORE_FULL", "the store is out of memory", { retryAfterMs: 1_000, cause: reply });
    if (reply.code === "NOPERM")
      return storeUnavailable(reply, "the store refused a command that its user has no right to");
    const isUnavailable =
      UNAVAILABLE_CODES.test(reply.code) || SLOT_MOVES.test(reply.reply) || CLUSTER_DOWN_IN_SCRIPT.test(reply.reply);
    return isUnavailable ? storeUnavailable(reply) : reply;
  }
  // The encoder refused an argument that is neither text nor bytes: a defect of the caller's.
  if (error instanceof TypeError) return error;
  // Everything else is a lost connection: the command may have had an effect.
  return storeUnavailable(error);
}

/** Returns the reply if an error is one that the store gave to this command alone, whatever the state of the store. */
export function refusalOf(error: unknown): StoreReplyError | undefined {
  if (error instanceof StoreReplyError) return error;
  const cause = error instanceof SessionError ? error.cause : undefined;
  return cause instanceof StoreReplyError && cause.code === "NOPERM" ? cause : undefined;
}

/**
 * Returns true if the store has refused a command only because it takes no writes, or not of these keys: its memory is full, it
 * cannot save, or it moves the keys to another node. What it has replied to reads is right all the same. That is not so of a
 * node that has lost its role, its replicas or its cluster.
 */
export function isOnlyWriteRefused(error: unknown): boolean {
  if (!(error instanceof SessionError && error.cause instanceof StoreReplyError)) return false;
  const { code, reply } = error.cause;
  return /^(OOM|MISCONF|TRYAGAIN)$/.test(code) || SLOT_MOVES.test(reply);
}

export function storeUnavailable(cause?: unknown, message = "the store is out of reach"): SessionError {
  return new SessionError("STORE_UNAVAILABLE", message, { retryAfterMs: RETRY_AFTER_MS, cause });
}

export function storeOverloaded(): SessionError {
  const message = "too many commands are waiting for the store";
  return new SessionError("STORE_OVERLOADED", message, { retryAfterMs: RETRY_AFTER_MS });
}
