#!/usr/bin/env node
// The command line: serve, healthcheck, doctor, keys, help, version. All settings are environment variables.

import { readFileSync } from "node:fs";
import type { Logger } from "pino";
import type { DoctorCheck } from "./cli/doctor.ts";
import { helpText } from "./cli/help.ts";
import { ConfigError, loadConfig, type Config } from "./config/config.ts";
import type { RunningServer } from "./server.ts";
import { createLogger, endOnFaults, openLogOutput, redactText } from "./ops/logger.ts";

const EXIT = { ok: 0, failed: 1, misused: 2, interrupted: 130 } as const;
type Exit = (typeof EXIT)[keyof typeof EXIT];

/** The share of the drain time that the server may use; the rest is for the exit of the process. */
const STOP_SHARE = 0.95;
/** Ctrl-C reaches the process twice, from the terminal and from npm. Signals within this time count as one. */
const SAME_SIGNAL_MS = 200;

/** What to do about a failed start, by the reason or the code of its error. */
const HINTS: Readonly<Record<string, string>> = {
  EADDRINUSE: "another process has that address: stop it, or set SA_GRPC_LISTEN or SA_HTTP_LISTEN",
  EADDRNOTAVAIL: "this machine does not have that address: set SA_GRPC_LISTEN or SA_HTTP_LISTEN",
  EACCES: "this user lacks the permission: choose a port above 1023, or a path that the user owns",
  STORE_UNAVAILABLE: "is the store up, and is SA_STORE_URL right? `doctor` shows details",
};

const COMMANDS: Readonly<Record<string, (args: readonly string[]) => Promise<Exit | undefined>>> = {
  serve,
  healthcheck,
  doctor,
  keys,
  help: () => print(helpText()),
  "--help": () => print(helpText()),
  "-h": () => print(helpText()),
  version: () => print(`${version()}\n`),
  "--version": () => print(`${version()}\n`),
};

/** The only option, of `doctor`. */
const JSON_OPTION = "--json";

process.exitCode = await run(process.argv.slice(2));

/** Runs one command. Resolves to its exit code, or to undefined if the service goes on running. */
async function run(args: readonly string[]): Promise<Exit | undefined> {
  const [name = "serve", ...rest] = args.includes("--help") ? ["help"] : args;
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) return misused(`unknown command: ${name}`);
  const unknown = rest.find((arg) => command !== keys && !(command === doctor && arg === JSON_OPTION));
  if (unknown !== undefined) return misused(`unknown argument: ${unknown}`);
  try {
    return await command(rest);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    if (rest.includes(JSON_OPTION)) {
      const { doctorJson } = await import("./cli/doctor.ts");
      await print(doctorJson(error.faults.map((text) => ({ check: "configuration", status: "failed", text }))));
      return EXIT.misused;
    }
    const { length } = error.faults;
    printError(`the configuration has ${length === 1 ? "a fault" : `${length} faults`}:`);
    process.stderr.write(`${error.faults.map((fault) => `  ${fault}`).join("\n")}\n`);
    return EXIT.misused;
  }
}

function misused(text: string): Exit {
  printError(`${text}\nTry: session-authority help`);
  return EXIT.misused;
}

async function serve(): Promise<Exit | undefined> {
  const config = loadConfig(process.env);
  const log = createLogger(config, await openLogOutput());
  endOnFaults(log);

  const starting = start(config, log);
  stopOnSignal(config, log, starting);
  try {
    const server = await starting;
    const workers = config.workers > 1 ? { workers: config.workers } : {};
    const facts = { version: version(), node: process.version, store: server.store, ...server.addresses, ...workers };
    log.info(facts, "serving");
    return undefined;
  } catch (error) {
    log.debug({ err: error }, "start failed");
    printError(`cannot start: ${redactText((error as Error).message)}`);
    const { code, reason } = error as { code?: unknown; reason?: unknown };
    const hint = HINTS[String(reason)] ?? HINTS[String(code)];
    if (hint !== undefined) process.stderr.write(`  hint: ${hint}\n`);
    // Nothing that the failed start left open may keep the process alive.
    process.exit(EXIT.failed);
  }
}

async function start(config: Config, log: Logger): Promise<RunningServer> {
  if (config.workers > 1) {
    const { startWorkers } = await import("./workers/primary.ts");
    return await startWorkers(config, log);
  }
  const { startServer } = await import("./server.ts");
  return await startServer(config, log);
}

function stopOnSignal(config: Config, log: Logger, starting: Promise<RunningServer>): void {
  let signalledMs: number | undefined;

  async function stop(signal: NodeJS.Signals): Promise<void> {
    if (signalledMs !== undefined) {
      if (performance.now() - signalledMs > SAME_SIGNAL_MS) process.exit(EXIT.interrupted);
      return;
    }
    signalledMs = performance.now();
    log.info({ signal }, "stopping");
    setTimeout(() => {
      log.warn("shutdown did not finish in time; the process exits now");
      process.exit(EXIT.ok);
    }, config.drainTimeoutMs * STOP_SHARE);
    // serve() reports a failed start.
    const server = await starting.catch(() => undefined);
    try {
      await server?.close();
    } catch (error) {
      log.error({ err: error }, "shutdown failed");
      process.exit(EXIT.failed);
    }
    log.info("stopped");
    process.exit(EXIT.ok);
  }

  process.on("SIGTERM", (signal) => void stop(signal));
  process.on("SIGINT", (signal) => void stop(signal));
}

async function healthcheck(): Promise<Exit> {
  const config = loadConfig(process.env);
  const { checkHealth } = await import("./cli/healthcheck.ts");
  const { ready, text } = await checkHealth(config);
  (ready ? process.stdout : process.stderr).write(`${ready ? "ready" : "not ready"}: ${text}\n`);
  return ready ? EXIT.ok : EXIT.failed;
}

async function doctor(args: readonly string[]): Promise<Exit> {
  const config = loadConfig(process.env);
  const { doctorJson, doctorLine, runDoctor } = await import("./cli/doctor.ts");
  const asJson = args.includes(JSON_OPTION);
  const checks: DoctorCheck[] = [];
  const healthy = await runDoctor(config, (check) => {
    const redacted = { ...check, text: redactText(check.text) };
    checks.push(redacted);
    if (!asJson) process.stdout.write(doctorLine(redacted));
  });
  if (asJson) await print(doctorJson(checks));
  return healthy ? EXIT.ok : EXIT.failed;
}

async function keys(args: readonly string[]): Promise<Exit> {
  const { KEYS_USAGE, runKeys } = await import("./cli/keys.ts");
  try {
    const text = runKeys(args);
    if (text !== undefined) return await print(text);
    printError(`expected ${KEYS_USAGE}`);
    return EXIT.misused;
  } catch (error) {
    printError((error as Error).message);
    return EXIT.failed;
  }
}

function print(text: string): Promise<Exit> {
  process.stdout.write(text);
  return Promise.resolve(EXIT.ok);
}

function printError(text: string): void {
  process.stderr.write(`session-authority: ${text}\n`);
}

function version(): string {
  const text = readFileSync(new URL("../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}
