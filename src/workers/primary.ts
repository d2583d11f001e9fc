// The primary of several workers: it holds what exists once (the addresses, the store of its own), and serves no call itself.

import cluster, { type Worker } from "node:cluster";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import type { Logger } from "pino";
import type { Config } from "../config/config.ts";
import { listenAddressText } from "../lib/listen_address.ts";
import { listen } from "../transport/listener.ts";
import type { MetricsReport } from "../ops/metrics.ts";
import type { ListenerName, RunningServer } from "../server.ts";
import { startEmbeddedStore } from "../store/embedded/embedded_store.ts";
import { generateTokenKeysFile } from "../auth/token_key_file.ts";
import { createHandover } from "./connection_dispatcher.ts";
import { createWorkerRequests } from "./worker_requests.ts";
import { sendToWorker, type FromWorker, type WorkerRequest } from "./messages.ts";
import { superviseWorker, type WorkerSupervisor, type WorkerEvents } from "./worker_supervisor.ts";
import { createMetricsAggregator } from "./metrics_aggregator.ts";

/** Of the drain time, what a worker may use, and when it is killed; the rest is for the store. */
const WORKER_SHARE = 0.85;
const KILL_SHARE = 0.9;

/** Starts the workers and resolves once all of them answer. Rejects, with nothing left behind, when one cannot. */
export async function startWorkers(config: Config, log: Logger): Promise<RunningServer> {
  const slots: WorkerSupervisor[] = [];
  const killAll = () => slots.forEach((slot) => slot.kill());
  // What has been started, in order; each function undoes one thing.
  const undo: (() => unknown)[] = [];
  const closeAll = async () => {
    for (const step of undo.splice(0).toReversed()) await step();
  };

  try {
    const embedded = config.storeUrl ? undefined : await startEmbeddedStore({ dataDir: config.dataDir, log });
    if (embedded) undo.push(() => embedded.stop());
    if (!existsSync(config.tokenKeysFile)) generateTokenKeysFile(config.tokenKeysFile);

    const workers = createWorkers();
    const own = {
      ...config,
      storeUrl: config.storeUrl ?? embedded!.url,
      drainTimeoutMs: config.drainTimeoutMs * WORKER_SHARE,
    };
    cluster.setupPrimary({
      exec: fileURLToPath(new URL(`./worker${extname(import.meta.filename)}`, import.meta.url)),
      args: [],
      // Metrics hold numbers that JSON has not.
      serialization: "advanced",
    });
    // A process that ends without close() takes its workers along.
    process.once("exit", killAll);
    undo.push(() => process.off("exit", killAll));
    undo.push(() => Promise.all(slots.map((slot) => slot.stop(config.drainTimeoutMs * KILL_SHARE))));
    for (let i = 0; i < config.workers; i++) slots.push(superviseWorker(own, workers.events, log));
    const [description] = await Promise.all(slots.map((slot) => slot.ready));

    const bind = async (name: ListenerName, address: Config["grpcListen"]) => {
      if (address === undefined) return {};
      const acceptor = createServer({ noDelay: true, pauseOnConnect: true }, (socket) => workers.give(name, socket));
      const listener = await listen(acceptor, address);
      // Not awaited: connections that the workers have count as well.
      undo.push(() => void listener.closed());
      return { [name]: listenAddressText(listener.address) };
    };
    const addresses = { ...(await bind("grpc", config.grpcListen)), ...(await bind("http", config.httpListen)) };
    let closed: Promise<void> | undefined;
    return {
      addresses,
      store: embedded ? `${embedded.description} (${description})` : description!,
      close: () => (closed ??= closeAll()),
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

/** What the primary does for the workers that are there. */
function createWorkers() {
  const ready = new Set<Worker>();
  const handover = createHandover();
  const inquiry = createWorkerRequests();
  const totals = createMetricsAggregator();

  async function metricsText(): Promise<string> {
    const asked = [...ready].map(async (worker) => [worker, await inquiry.ask(worker, { kind: "metrics" })] as const);
    const reports = (await Promise.all(asked)).filter(([worker]) => ready.has(worker));
    return await totals.textOf(new Map(reports as [Worker, MetricsReport | undefined][]));
  }

  async function renewBySiblingOf(worker: Worker, question: WorkerRequest): Promise<boolean> {
    const siblings = [...ready].filter((other) => other !== worker);
    const renewed = async (sibling: Worker) => {
      if ((await inquiry.ask(sibling, question)) !== true) throw new Error("it has no such watcher");
      return true;
    };
    return await Promise.any(siblings.map(renewed)).catch(() => false);
  }

  async function reply(worker: Worker, id: number, question: WorkerRequest): Promise<void> {
    const answer = question.kind === "metrics" ? metricsText() : renewBySiblingOf(worker, question);
    sendToWorker(worker, { type: "reply", id, reply: await answer });
  }

  const events: WorkerEvents = {
    onReady(worker) {
      ready.add(worker);
      handover.add(worker);
    },
    onMessage(worker: Worker, message: FromWorker) {
      if (message.type === "accepted") handover.accepted(worker, message.id);
      else if (message.type === "answer") inquiry.answered(message.id, message.answer);
      else if (message.type === "ask") void reply(worker, message.id, message.question);
    },
    onGone(worker) {
      ready.delete(worker);
      handover.remove(worker);
      inquiry.gone(worker);
      totals.gone(worker);
    },
  };
  return { events, give: handover.give };
}
