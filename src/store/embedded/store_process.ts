// Supervises the process of the embedded store: starts it, restarts it whenever it dies, and stops it with the service.

import { fork, spawn, type ChildProcess } from "node:child_process";
import { extname } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { createRestartDelays } from "../../lib/backoff.ts";
import { exitOf } from "../../lib/process_exit.ts";
import { storeAt } from "./data_directory.ts";

export type StoreProgram = {
  readonly kind: "valkey-server" | "redis-server" | "js-redis-server";
  readonly description: string;
  /** The path of the program; undefined for js-redis-server, which is a module. */
  readonly file?: string;
  readonly args: readonly string[];
};

const POLL_MS = 20;
const RESTARTS = { minDelayMs: 50, maxDelayMs: 2_000, healthyMs: 5_000 };
const STOP_TIMEOUT_MS = 5_000;
const OUTPUT_LINES_KEPT = 20;

/**
 * Starts the program and resolves when it accepts commands on the socket.
 * @throws Error with the program's last lines of output, if it exits before that.
 */
export async function startSupervisedStore(program: StoreProgram, socketPath: string, log: Logger) {
  const store = new StoreProcess(program, log.child({ store: program.kind }));
  await store.ready(socketPath);
  return store;
}

class StoreProcess {
  readonly #program: StoreProgram;
  readonly #log: Logger;
  readonly #stopping = new AbortController();
  #child!: ChildProcess;
  #exited!: Promise<string>;
  #startedMs = 0;
  /** The last lines of the present process's output. */
  #lines: string[] = [];
  #supervision: Promise<void> | undefined;
  // A service that exits without stop() takes its store along, unless the service is killed.
  readonly #killAtExit = () => void this.#child.kill("SIGTERM");

  constructor(program: StoreProgram, log: Logger) {
    this.#program = program;
    this.#log = log;
    this.#start();
  }

  async ready(socketPath: string): Promise<void> {
    const failed = this.#exited.then((how) => {
      throw new Error(`${this.#program.kind} ended ${how} during its start:\n${this.#lines.join("\n")}`);
    });
    try {
      await Promise.race([this.#untilReady(socketPath), failed]);
    } catch (error) {
      this.#stopping.abort();
      this.#child.kill("SIGKILL");
      await this.#exited;
      throw error;
    }
    this.#log.info({ pid: this.#child.pid }, "embedded store ready");
    process.once("exit", this.#killAtExit);
    this.#supervision = this.#supervise();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#child.kill("SIGTERM");
    const kill = setTimeout(() => {
      this.#log.error("embedded store did not stop in time; it is killed");
      this.#child.kill("SIGKILL");
    }, STOP_TIMEOUT_MS);
    await this.#exited;
    clearTimeout(kill);
    await this.#supervision;
    process.off("exit", this.#killAtExit);
  }

  #start(): void {
    this.#lines = [];
    this.#startedMs = performance.now();
    this.#child = launch(this.#program);
    this.#exited = exitOf(this.#child);
    for (const output of [this.#child.stdout, this.#child.stderr]) {
      if (output) createInterface({ input: output }).on("line", (line) => this.#logLine(line));
    }
  }

  async #supervise(): Promise<void> {
    const nextDelayMs = createRestartDelays(RESTARTS);
    const { signal } = this.#stopping;
    for (;;) {
      const how = await this.#exited;
      if (signal.aborted) return;
      const delayMs = nextDelayMs(performance.now() - this.#startedMs);
      const lost = this.#program.file ? "" : "; all sessions are lost, for it keeps nothing on disk";
      const output = this.#lines.slice(-3);
      this.#log.error({ how, delayMs, output }, `embedded store died; it restarts after delayMs${lost}`);
      await sleep(delayMs, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      this.#start();
    }
  }

  #logLine(line: string): void {
    this.#lines = [...this.#lines.slice(1 - OUTPUT_LINES_KEPT), line];
    // "1234:M 01 Jan 2026 00:00:00.000 # text": the store marks its warnings with #, but also what it logs at each start.
    const warning = /^\d+:\w .{15,30} # .*(warning|error|fail|can't|cannot|corrupt|crash|abort|denied)/i.test(line);
    if (warning || this.#program.kind === "js-redis-server") this.#log.warn(line);
    else this.#log.debug(line);
  }

  async #untilReady(socketPath: string): Promise<void> {
    let loading = false;
    while (!this.#stopping.signal.aborted) {
      const { state } = await storeAt(socketPath);
      if (state === "ready") return;
      if (state === "loading" && !loading) this.#log.info("embedded store is loading its data");
      loading ||= state === "loading";
      await sleep(POLL_MS);
    }
  }
}

function launch(program: StoreProgram): ChildProcess {
  // A process group of its own: Ctrl-C in a terminal must not stop the store while the service still uses it.
  if (program.file !== undefined) {
    return spawn(program.file, program.args, { stdio: ["ignore", "pipe", "pipe"], detached: true });
  }
  // js-redis-server exits when the channel to this process closes, so also when this process is killed.
  const module = new URL(`./js_redis_server${extname(import.meta.filename)}`, import.meta.url);
  return fork(module, program.args, { stdio: ["ignore", "pipe", "pipe", "ipc"], execArgv: [], detached: true });
}
