// Supervises one worker: forks its process, and forks another one whenever that dies.

import cluster, { type Worker } from "node:cluster";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import type { Config } from "../config/config.ts";
import { createRestartDelays } from "../lib/backoff.ts";
import { exitOf } from "../lib/process_exit.ts";
import { sendToWorker, type ToPrimary, type WorkerReady } from "./messages.ts";

export type WorkerSupervisorOptions = {
  readonly config: Config;
  /** The worker loads its modules at once, and starts when this resolves. */
  readonly mayStart: Promise<unknown>;
  readonly events: WorkerEvents;
  readonly log: Logger;
};

export type WorkerEvents = {
  /** The worker serves calls from now on. */
  onReady(worker: Worker): void;
  /** Any message but those about the worker's start. */
  onMessage(worker: Worker, message: ToPrimary): void;
  onExit(worker: Worker): void;
};

const RESTARTS = { minDelayMs: 100, maxDelayMs: 5_000, healthyMs: 10_000 };

export class WorkerSupervisor {
  /** Resolves when the first process serves. Rejects with the error of its start; then no process is left. */
  readonly ready: Promise<WorkerReady>;
  readonly #options: WorkerSupervisorOptions;
  readonly #firstReady = Promise.withResolvers<WorkerReady>();
  readonly #stopping = new AbortController();
  readonly #supervision: Promise<void>;
  #worker!: Worker;
  #exited!: Promise<string>;
  /** When the present process began to serve. */
  #readyMs: number | undefined;
  #startError: Error | undefined;

  constructor(options: WorkerSupervisorOptions) {
    this.#options = options;
    this.ready = this.#firstReady.promise;
    // Nobody awaits it if another worker has failed before.
    this.ready.catch(() => undefined);
    this.#fork();
    this.#supervision = this.#supervise();
  }

  /** Lets the process finish the calls in flight; kills it after `graceMs`. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping.abort();
    // A process that does not serve yet has nothing to finish.
    if (this.#readyMs === undefined) this.kill();
    else sendToWorker(this.#worker, { type: "stop" });
    const force = setTimeout(() => {
      const worker = this.#worker.process.pid;
      this.#options.log.warn({ worker }, "worker did not stop in time; it is killed and its calls fail");
      this.kill();
    }, graceMs);
    await this.#supervision;
    clearTimeout(force);
  }

  kill(): void {
    this.#worker.process.kill("SIGKILL");
  }

  #fork(): void {
    this.#readyMs = undefined;
    this.#startError = undefined;
    const worker = (this.#worker = cluster.fork());
    this.#exited = exitOf(worker.process);
    // The cluster module emits the errors of the process on the worker as well.
    worker.on("error", () => undefined);
    worker.on("message", (message: ToPrimary) => this.#receive(worker, message));
  }

  #receive(worker: Worker, message: ToPrimary): void {
    const { config, mayStart, events, log } = this.#options;
    switch (message.type) {
      case "loaded":
        mayStart.then(
          () => sendToWorker(worker, { type: "start", config }),
          () => undefined,
        );
        return;
      case "failed":
        this.#startError = Object.assign(new Error(message.message), { code: message.code, reason: message.reason });
        return;
      case "ready":
        this.#readyMs = performance.now();
        log.info({ worker: worker.process.pid, ...message.addresses }, "worker ready");
        events.onReady(worker);
        return this.#firstReady.resolve(message);
      default:
        return events.onMessage(worker, message);
    }
  }

  async #supervise(): Promise<void> {
    const { events, log } = this.#options;
    const { signal } = this.#stopping;
    const nextDelayMs = createRestartDelays(RESTARTS);
    for (let served = false; ;) {
      const how = await this.#exited;
      const readyMs = this.#readyMs;
      events.onExit(this.#worker);
      served ||= readyMs !== undefined;
      if (!served) {
        this.#firstReady.reject(this.#startError ?? new Error(`a worker exited ${how} during its start; see the log`));
      }
      if (!served || signal.aborted) return;
      const delayMs = nextDelayMs(readyMs === undefined ? 0 : performance.now() - readyMs);
      log.error(
        { worker: this.#worker.process.pid, how, delayMs, error: this.#startError?.message },
        "worker died; its in-flight calls failed; a replacement starts after delayMs",
      );
      await sleep(delayMs, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      this.#fork();
    }
  }
}
