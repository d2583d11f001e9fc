// The log: JSON lines on stdout, in which no credential appears, however it got there.

import { pino, stdTimeFunctions, type DestinationStream, type Logger } from "pino";
import type { LogLevel } from "../config/config.ts";

const REDACTED = "[redacted]";

/** Names under which a credential may be logged, at any of the depths below. */
const SECRET_NAMES = [
  "session_id",
  "sessionId",
  "except_session_id",
  "exceptSessionId",
  "token",
  "secret",
  "password",
  "authorization",
  "cookie",
  "api_key",
  "apiKey",
];
const DEPTHS = ["", "*.", "*.*.", "*.*.*."];

/** The texts of secrets themselves, for those inside a message, a stack or a store's error reply. */
const SECRET_TEXTS: readonly [RegExp, string][] = [
  [/\bsat1_[\w-]+/g, REDACTED],
  [/\b(bearer|basic)\s+[\w.~+/=-]{8,}/gi, `$1 ${REDACTED}`],
  // 28 characters of base64url with each kind of character: a session id. Words and hex numbers lack one kind.
  [/(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[A-Z])(?=[\w-]*[a-z])[\w-]{28}(?![\w-])/g, REDACTED],
];
const URL_CREDENTIALS = /\b([a-z][a-z0-9+.-]{0,30}:\/\/)[^\s"']*@/gi;

/** A URL, or a text with URLs in it, without user names and passwords. */
export function redactUrl(text: string): string {
  return text.replace(URL_CREDENTIALS, `$1${REDACTED}@`);
}

/** A text without anything that looks like a credential. */
export function redactText(text: string): string {
  return SECRET_TEXTS.reduce((result, [pattern, replacement]) => result.replace(pattern, replacement), redactUrl(text));
}

/** What nobody has caught ends the process, and is logged before. */
export function endOnFaults(log: Logger): void {
  const end = (what: string) => (error: unknown) => {
    log.fatal({ err: error }, what);
    process.exit(1);
  };
  process.on("uncaughtException", end("uncaught exception"));
  process.on("unhandledRejection", end("unhandled rejection"));
}

/** The logger of the process; lines go to stdout, or to `destination`. */
export function createLogger(config: { readonly logLevel: LogLevel }, destination?: DestinationStream): Logger {
  return pino(
    {
      level: config.logLevel,
      base: { service: "session-authority" },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: DEPTHS.flatMap((depth) => SECRET_NAMES.map((name) => depth + name)), censor: REDACTED },
      // The last thing before the line is written, so it covers every message, error and child logger.
      hooks: { streamWrite: redactText },
    },
    // Synchronous: the line that says why the process ends is written before it ends.
    destination ?? pino.destination({ fd: 1, sync: true }),
  );
}
