// One worker's place: a process that is forked, and forked again whenever it dies.

import cluster, { type Worker } from "node:cluster";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import type { Config } from "../config/config.ts";
import { sendToWorker, type FromWorker } from "./messages.ts";

export type WorkerEvents = {
  /** It may be given connections from now on. */
  onReady(worker: Worker): void;
  /** Any message but those about its start. */
  onMessage(worker: Worker, message: FromWorker): void;
  onGone(worker: Worker): void;
};

export type WorkerSupervisor = {
  /** The store that the first worker found. Rejects with that worker's own error when its start fails; nothing is left then. */
  readonly ready: Promise<string>;
  /** Lets the worker finish what it has, for so long at most. */
  stop(graceMs: number): Promise<void>;
  /** Ends the worker at once. */
  kill(): void;
};

const RESPAWN_MIN_MS = 100;
const RESPAWN_MAX_MS = 5_000;
/** A worker that served for longer than this is replaced at once. */
const HEALTHY_MS = 10_000;

export function superviseWorker(config: Config, events: WorkerEvents, log: Logger): WorkerSupervisor {
  const stopping = new AbortController();
  let worker: Worker;
  let exited: Promise<string>;
  let readyMs: number | undefined;
  const first = Promise.withResolvers<string>();
  let fault: Error | undefined;

  // Whoever waits for it hears of it; when another worker has failed before, nobody does.
  first.promise.catch(() => undefined);

  fork();
  const supervision = supervise();

  function fork(): void {
    readyMs = undefined;
    fault = undefined;
    const forked = (worker = cluster.fork());
    exited = exitOf(forked);
    forked.on("message", (message: FromWorker) => hear(forked, message));
  }

  function hear(from: Worker, message: FromWorker): void {
    if (message.type === "hello") return sendToWorker(from, { type: "start", config });
    if (message.type === "failed") {
      fault = Object.assign(new Error(message.message), { code: message.code, reason: message.reason });
      return;
    }
    if (message.type !== "ready") return events.onMessage(from, message);
    readyMs = performance.now();
    log.info({ worker: from.process.pid }, "a worker is ready");
    events.onReady(from);
    first.resolve(message.store);
  }

  async function supervise(): Promise<void> {
    let failures = 0;
    for (let served = false; ;) {
      const how = await exited;
      events.onGone(worker);
      served ||= readyMs !== undefined;
      if (!served) first.reject(fault ?? new Error(`a worker ended ${how} at its start; the log may tell why`));
      if (!served || stopping.signal.aborted) return;
      failures = readyMs !== undefined && performance.now() - readyMs > HEALTHY_MS ? 0 : failures + 1;
      const delayMs = respawnDelayMs(failures);
      log.error(
        { worker: worker.process.pid, how, delayMs, fault: fault?.message },
        "a worker died and is replaced: its calls are lost",
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
      // One that has not begun to serve has nothing to finish.
      if (readyMs === undefined) kill();
      else sendToWorker(worker, { type: "stop" });
      const force = setTimeout(() => {
        log.warn({ worker: worker.process.pid }, "a worker does not end in time and is killed");
        kill();
      }, graceMs);
      await supervision;
      clearTimeout(force);
    },
    kill,
  };
}

/** None the first time; then longer and longer, and not the same for all workers. */
function respawnDelayMs(failures: number): number {
  if (failures <= 1) return 0;
  return Math.min(RESPAWN_MAX_MS, RESPAWN_MIN_MS * 2 ** Math.min(failures, 10)) * (0.5 + Math.random() / 2);
}

function exitOf(worker: Worker): Promise<string> {
  return new Promise((resolve) => {
    worker.on("exit", (code: number | null, signal: string | null) =>
      resolve(signal === null ? `with code ${code}` : `by ${signal}`),
    );
    worker.on("error", (error) => {
      // Without a process there is no exit either.
      if (worker.process.pid === undefined) resolve(`before it began: ${error.message}`);
    });
  });
}
