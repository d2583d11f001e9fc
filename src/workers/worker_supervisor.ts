// Supervises one worker: forks its process, and forks another one whenever that dies.

import cluster, { type Worker } from "node:cluster";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import type { Config } from "../config/config.ts";
import { createRestartDelays } from "../lib/backoff.ts";
import { sendToWorker, type ToPrimary, type WorkerReady } from "./messages.ts";

export type WorkerEvents = {
  /** The worker serves calls from now on. */
  onReady(worker: Worker): void;
  /** Any message but those about the worker's start. */
  onMessage(worker: Worker, message: ToPrimary): void;
  onExit(worker: Worker): void;
};

export type WorkerSupervisor = {
  /** Resolves when the first process serves. Rejects with the error of its start; then no process is left. */
  readonly ready: Promise<WorkerReady>;
  /** Lets the process finish the calls in flight; kills it after `graceMs`. */
  stop(graceMs: number): Promise<void>;
  /** Kills the process. */
  kill(): void;
};

const RESTARTS = { minDelayMs: 100, maxDelayMs: 5_000, healthyMs: 10_000 };

export function superviseWorker(config: Config, events: WorkerEvents, log: Logger): WorkerSupervisor {
  const stopping = new AbortController();
  let worker: Worker;
  let exited: Promise<string>;
  let readyMs: number | undefined;
  const first = Promise.withResolvers<WorkerReady>();
  let startError: Error | undefined;

  // Nobody awaits it if another worker has failed before.
  first.promise.catch(() => undefined);

  fork();
  const supervision = supervise();

  function fork(): void {
    readyMs = undefined;
    startError = undefined;
    const forked = (worker = cluster.fork());
    exited = exitOf(forked);
    forked.on("message", (message: ToPrimary) => receive(forked, message));
  }

  function receive(from: Worker, message: ToPrimary): void {
    if (message.type === "loaded") return sendToWorker(from, { type: "start", config });
    if (message.type === "failed") {
      startError = Object.assign(new Error(message.message), { code: message.code, reason: message.reason });
      return;
    }
    if (message.type !== "ready") return events.onMessage(from, message);
    readyMs = performance.now();
    log.info({ worker: from.process.pid, ...message.addresses }, "worker ready");
    events.onReady(from);
    first.resolve(message);
  }

  async function supervise(): Promise<void> {
    const nextDelayMs = createRestartDelays(RESTARTS);
    for (let served = false; ;) {
      const how = await exited;
      events.onExit(worker);
      served ||= readyMs !== undefined;
      if (!served) first.reject(startError ?? new Error(`a worker exited ${how} while it started; see the log`));
      if (!served || stopping.signal.aborted) return;
      const delayMs = nextDelayMs(readyMs === undefined ? 0 : performance.now() - readyMs);
      log.error(
        { worker: worker.process.pid, how, delayMs, error: startError?.message },
        "worker died; its in-flight calls failed; a replacement starts after delayMs",
      );
      await sleep(delayMs, undefined, { signal: stopping.signal }).catch(() => undefined);
      if (stopping.signal.aborted) return;
      fork();
    }
  }

  const kill = () => void worker.process.kill("SIGKILL");
  return {
    ready: first.promise,
    async stop(graceMs) {
      stopping.abort();
      // A process that does not serve yet has nothing to finish.
      if (readyMs === undefined) kill();
      else sendToWorker(worker, { type: "stop" });
      const force = setTimeout(() => {
        log.warn({ worker: worker.process.pid }, "worker did not stop in time; it is killed and its calls fail");
        kill();
      }, graceMs);
      await supervision;
      clearTimeout(force);
    },
    kill,
  };
}

function exitOf(worker: Worker): Promise<string> {
  return new Promise((resolve) => {
    worker.on("exit", (code: number | null, signal: string | null) =>
      resolve(signal === null ? `with code ${code}` : `by ${signal}`),
    );
    worker.on("error", (error) => {
      // A process that was never created has no "exit" event.
      if (worker.process.pid === undefined) resolve(`before it began: ${error.message}`);
    });
  });
}
