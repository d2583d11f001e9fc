// The messages of grpc-js itself. By default it prints them to stderr at every level, and they can hold a whole header.

import { logVerbosity, setLogger, setLogVerbosity } from "@grpc/grpc-js";
import type { Logger } from "pino";

const LOG_INTERVAL_MS = 1_000;
/** The message about a header that grpc-js cannot store: its name is kept, and its value dropped, which may be a credential. */
const HEADER_VALUE = /^(Failed to add metadata entry [^:]*):.*/s;

/** Logs the errors of grpc-js, at most one a second. */
export function redirectGrpcLog(logger: Logger): void {
  let lastMs = -Infinity;
  let suppressed = 0;
  setLogVerbosity(logVerbosity.ERROR);
  setLogger({
    error(message: unknown) {
      const nowMs = performance.now();
      if (nowMs - lastMs < LOG_INTERVAL_MS) {
        suppressed++;
        return;
      }
      logger.warn({ error: String(message).replace(HEADER_VALUE, "$1"), suppressed }, "grpc-js reported an error");
      lastMs = nowMs;
      suppressed = 0;
    },
  });
}
