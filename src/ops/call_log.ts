// Logs calls when they end: how they ended and for which principal, never their content.

import { Code } from "@connectrpc/connect";
import { status } from "@grpc/grpc-js";
import type { Logger } from "pino";
import type { CallObserver, FinishedCall } from "../rpc/call_handling.ts";

const UNAVAILABLE_LOG_INTERVAL_MS = 1_000;

/** Logs every INTERNAL failure, at most one UNAVAILABLE a second, and one in `sampleEvery` of all other calls. */
export function createCallLog(logger: Logger, sampleEvery: number): CallObserver {
  let succeeded = 0;
  let failed = 0;
  let lastUnavailableMs = -Infinity;
  let suppressed = 0;

  return (call) => {
    const { failure } = call;
    if (failure === undefined) {
      if (succeeded++ % sampleEvery === 0) logger.debug(entryOf(call), "call");
    } else if (failure.code === Code.Internal) {
      logger.error({ ...entryOf(call), stack: redactedStack(failure.cause) }, "call failed");
    } else if (failure.code === Code.Unavailable) {
      const nowMs = performance.now();
      if (nowMs - lastUnavailableMs < UNAVAILABLE_LOG_INTERVAL_MS) {
        suppressed++;
        return;
      }
      logger.warn({ ...entryOf(call), suppressed }, "call failed");
      lastUnavailableMs = nowMs;
      suppressed = 0;
    } else if (failed++ % sampleEvery === 0) {
      logger.info(entryOf(call), "call failed");
    }
  };
}

function entryOf({ method, durationMs, principal, failure }: FinishedCall) {
  return {
    method,
    code: failure === undefined ? "OK" : status[failure.code],
    reason: failure?.reason,
    durationMs: Math.round(durationMs * 100) / 100,
    tenant: principal?.tenant,
    principal: principal?.name,
  };
}

// The text of an unexpected error may quote a token, a session id, or a store key that contains a user id.
function redactedStack(cause: unknown): string {
  const stack = cause instanceof Error ? (cause.stack ?? cause.message) : `thrown: ${typeof cause}`;
  return stack
    .replaceAll(/sat1_[\w-]+/g, "[token]")
    .replaceAll(/sa:\{[^}]*\}:\S*/g, "[key]")
    .replaceAll(/(?<![\w-])[\w-]{28}(?![\w-])/g, "[id]");
}
