// What a failure of the store means to the caller: the one place that reads node-redis's errors and the store's.

import { ErrorReply } from "redis";
import { SessionError } from "../../domain/errors.ts";

/** How soon a retry is worth its while. */
const RETRY_AFTER_MS = 250;

/** An error reply that no caller can act on: a bug, or a store that is set up wrongly. `code` is its first word. */
export class StoreReplyError extends Error {
  override readonly name = "StoreReplyError";
  readonly code: string;
  /** The reply as it came, which may repeat arguments: for logs only. */
  readonly reply: string;

  constructor(reply: string) {
    super(`the store refused a command: ${reply}`);
    this.reply = reply;
    this.code = /^[A-Z][A-Z0-9_]*/.exec(reply)?.[0] ?? "ERR";
  }
}

/** Error replies of a store that cannot serve now, or not here: the command had no effect. */
const UNAVAILABLE_CODES = new Set([
  "LOADING",
  "MASTERDOWN",
  "READONLY",
  "CLUSTERDOWN",
  "TRYAGAIN",
  "BUSY",
  "MISCONF",
  "NOREPLICAS",
  "MOVED",
  "ASK",
]);

/** What `send` rejects with for anything that came out of a client. */
export function storeError(error: unknown): Error {
  if (error instanceof SessionError || error instanceof StoreReplyError) return error;
  if (error instanceof ErrorReply) {
    const reply = new StoreReplyError(error.message);
    if (reply.code === "OOM") return storeFull(reply);
    return UNAVAILABLE_CODES.has(reply.code) ? storeUnavailable(reply) : reply;
  }
  // The encoder's refusal of an argument that is neither text nor bytes: ours to fix.
  if (error instanceof TypeError) return error;
  // Everything else is a lost connection: whether the command had an effect is unknown.
  return storeUnavailable(error);
}

export function storeUnavailable(cause?: unknown): SessionError {
  return new SessionError("STORE_UNAVAILABLE", "the store is out of reach", { retryAfterMs: RETRY_AFTER_MS, cause });
}

export function storeTimeout(): SessionError {
  return new SessionError("STORE_TIMEOUT", "the store did not answer in time", { retryAfterMs: RETRY_AFTER_MS });
}

export function storeOverloaded(): SessionError {
  const message = "too many commands are waiting for the store";
  return new SessionError("STORE_OVERLOADED", message, { retryAfterMs: RETRY_AFTER_MS });
}

function storeFull(cause: unknown): SessionError {
  return new SessionError("STORE_FULL", "the store is out of memory", { retryAfterMs: 1_000, cause });
}
