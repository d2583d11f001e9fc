// The log: lines on stdout, in which no credential appears, whatever logged it.

import { isatty } from "node:tty";
import { pino, stdTimeFunctions, type DestinationStream, type LevelWithSilent, type Logger } from "pino";

const REDACTED = "[redacted]";

/** The property names of credentials; they are redacted at each of the depths below. */
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

/** Patterns of the credentials themselves, for those inside a message, a stack or a store's error reply. */
const SECRET_TEXTS: readonly [RegExp, string][] = [
  [/\bsat1_[\w-]+/g, REDACTED],
  [/\b(bearer|basic)\s+[\w.~+/=-]{8,}/gi, `$1 ${REDACTED}`],
  // A session id: 28 characters of base64url with a digit, an upper-case and a lower-case letter. Words and hexadecimal
  // numbers lack one of these.
  [/(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[A-Z])(?=[\w-]*[a-z])[\w-]{28}(?![\w-])/g, REDACTED],
];
const URL_CREDENTIALS = /\b([a-z][a-z0-9+.-]{0,30}:\/\/)[^\s"']*@/gi;

/** Redacts the user names and passwords of all URLs in a text. */
export function redactUrl(text: string): string {
  return text.replace(URL_CREDENTIALS, `$1${REDACTED}@`);
}

/** Redacts everything in a text that looks like a credential. */
export function redactText(text: string): string {
  return SECRET_TEXTS.reduce((result, [pattern, replacement]) => result.replace(pattern, replacement), redactUrl(text));
}

/** Logs an uncaught exception or an unhandled rejection, then ends the process with exit code 1. */
export function endOnFaults(log: Logger): void {
  const end = (message: string) => (error: unknown) => {
    log.fatal({ err: error }, message);
    process.exit(1);
  };
  process.on("uncaughtException", end("uncaught exception"));
  process.on("unhandledRejection", end("unhandled rejection"));
}

/** Creates a logger that writes redacted JSON lines to `destination`; by default to stdout, whatever that is. */
export function createLogger(
  config: { readonly logLevel: LevelWithSilent },
  destination: DestinationStream = openStdout(),
): Logger {
  return pino(
    {
      level: config.logLevel,
      base: { service: "session-authority" },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: DEPTHS.flatMap((depth) => SECRET_NAMES.map((name) => depth + name)), censor: REDACTED },
      // The last step before the line is written, so it covers every message, error and child logger. It comes before the
      // formatting for terminals, whose colour codes would hide the beginning of a credential from the patterns.
      hooks: { streamWrite: redactText },
    },
    destination,
  );
}

/** Opens stdout for a logger: for lines of text for people if it is a terminal, for JSON lines otherwise. */
export async function openLogOutput(): Promise<DestinationStream> {
  return isatty(1) ? await formatForPeople(openStdout()) : openStdout();
}

/** Creates a destination that takes JSON lines and writes one line of text for each, and the stack of an error below it. */
export async function formatForPeople(output: DestinationStream): Promise<DestinationStream> {
  // Loaded only where it is used, for that takes 26 ms.
  const { prettyFactory } = await import("pino-pretty");
  const format = prettyFactory({ singleLine: true, ignore: "service", translateTime: "SYS:HH:MM:ss.l" });
  return { write: (line) => output.write(format(line)) };
}

// Synchronous: the line that says why the process ends is written before it ends.
function openStdout(): DestinationStream {
  return pino.destination({ fd: 1, sync: true });
}
