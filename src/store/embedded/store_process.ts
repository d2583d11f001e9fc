// The embedded store's process: started, restarted whenever it dies, and ended with the service.

import { fork, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { extname } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { storeAt } from "./data_directory.ts";

export type StoreProgram =
  | {
      readonly kind: "valkey-server" | "redis-server";
      readonly description: string;
      readonly file: string;
      readonly args: readonly string[];
    }
  | {
      readonly kind: "js-redis-server";
      readonly description: string;
      readonly args: readonly string[];
      readonly file?: undefined;
    };

export type SupervisedStore = { stop(): Promise<void> };

const POLL_MS = 20;
const RESPAWN_MAX_MS = 2_000;
/** A process that lived longer than this is restarted at once. */
const HEALTHY_MS = 5_000;
const STOP_TIMEOUT_MS = 5_000;
const OUTPUT_LINES_KEPT = 20;

/** The code of embedded_trial.ts for a package that is not installed. */
export const EXIT_NOT_INSTALLED = 78;

/** Starts the program and resolves once it answers. @throws Error when it ends before that. */
export async function superviseStore(program: StoreProgram, socketPath: string, log: Logger): Promise<SupervisedStore> {
  const storeLog = log.child({ store: program.kind });
  const stopping = new AbortController();
  let lines: string[] = [];
  let child = start();
  let exited = exitOf(child);

  await Promise.race([untilReady(), exited.then((how) => Promise.reject(startFault(program, how, lines)))]).catch(
    async (error: unknown) => {
      stopping.abort();
      child.kill("SIGKILL");
      await exited;
      throw error;
    },
  );
  storeLog.info({ pid: child.pid }, "the embedded store is up");
  // A process that ends without stop() takes its store along, unless it is killed outright.
  const onProcessExit = (): void => void child.kill("SIGTERM");
  process.once("exit", onProcessExit);
  const supervision = supervise();

  async function supervise(): Promise<void> {
    let failures = 0;
    let startedMs = performance.now();
    for (;;) {
      const how = await exited;
      if (stopping.signal.aborted) return;
      failures = performance.now() - startedMs > HEALTHY_MS ? 0 : failures + 1;
      const delayMs = failures <= 1 ? 0 : Math.min(RESPAWN_MAX_MS, 50 * 2 ** Math.min(failures, 10));
      storeLog.error({ how, delayMs, output: lines.slice(-3) }, "the embedded store died and is started again");
      if (program.kind === "js-redis-server") storeLog.error("it keeps nothing on disk: all sessions are lost");
      await sleep(delayMs, undefined, { signal: stopping.signal }).catch(() => undefined);
      if (stopping.signal.aborted) return;
      startedMs = performance.now();
      child = start();
      exited = exitOf(child);
    }
  }

  function start(): ChildProcess {
    lines = [];
    const started = launch(program);
    for (const output of [started.stdout, started.stderr]) {
      if (output) createInterface({ input: output }).on("line", onLine);
    }
    return started;
  }

  function onLine(line: string): void {
    lines = [...lines.slice(1 - OUTPUT_LINES_KEPT), line];
    // "1234:M 01 Jan 2026 00:00:00.000 # text": # marks warnings, but the greetings of a start as well.
    const warning = /^\d+:\w .{15,30} # .*(warning|error|fail|can't|cannot|corrupt|crash|abort|denied)/i.test(line);
    if (warning || program.kind === "js-redis-server") storeLog.warn(line);
    else storeLog.debug(line);
  }

  async function untilReady(): Promise<void> {
    let loading = false;
    while (!stopping.signal.aborted) {
      const { state } = await storeAt(socketPath);
      if (state === "ready") return;
      if (state === "loading" && !loading) storeLog.info("the embedded store is loading its data");
      loading ||= state === "loading";
      await sleep(POLL_MS);
    }
  }

  return {
    async stop() {
      stopping.abort();
      child.kill("SIGTERM");
      const kill = setTimeout(() => {
        storeLog.error("the embedded store does not end and is killed");
        child.kill("SIGKILL");
      }, STOP_TIMEOUT_MS);
      await exited;
      clearTimeout(kill);
      await supervision;
      process.off("exit", onProcessExit);
    },
  };
}

function launch(program: StoreProgram): ChildProcess {
  // A process group of its own: Ctrl-C in a terminal must not end the store before the service is done with it.
  if (program.file !== undefined) {
    return spawn(program.file, program.args, { stdio: ["ignore", "pipe", "pipe"], detached: true });
  }
  // The channel to this process is what ends the trial store when this process is killed.
  const module = new URL(`./js_redis_server${extname(import.meta.filename)}`, import.meta.url);
  return fork(module, program.args, { stdio: ["ignore", "pipe", "pipe", "ipc"], execArgv: [], detached: true });
}

type Exit = { readonly code: number | null; readonly signal: string | null; readonly error?: unknown };

async function exitOf(child: ChildProcess): Promise<Exit> {
  try {
    const [code, signal] = (await once(child, "exit")) as [number | null, string | null];
    return { code, signal };
  } catch (error) {
    // It could not be started at all.
    return { code: null, signal: null, error };
  }
}

function startFault(program: StoreProgram, how: Exit, lines: readonly string[]): Error {
  if (program.kind === "js-redis-server" && how.code === EXIT_NOT_INSTALLED) {
    return new Error(
      "there is no store: install valkey-server or redis-server, or set SA_STORE_URL to one that runs elsewhere",
    );
  }
  const end = how.signal === null ? `with code ${how.code}` : `by ${how.signal}`;
  return new Error(`${program.kind} ended ${end} at its start:\n${lines.join("\n")}`, { cause: how.error });
}
