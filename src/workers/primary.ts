// The primary process of several workers: it holds what exists once (the addresses, the embedded store) and serves no call.
//
// node:cluster accepts the connections here and distributes them over the workers in turn.

import cluster, { type Worker } from "node:cluster";
import { existsSync } from "node:fs";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import type { Logger } from "pino";
import type { Config } from "../config/config.ts";
import type { MetricsReport } from "../ops/metrics.ts";
import type { RunningServer } from "../server.ts";
import { startEmbeddedStore } from "../store/embedded/embedded_store.ts";
import { generateTokenKeysFile } from "../auth/token_key_file.ts";
import { removeStaleSocket } from "../transport/host.ts";
import { createWorkerRequests } from "./worker_requests.ts";
import { sendToWorker, type ToPrimary } from "./messages.ts";
import { WorkerSupervisor, type WorkerEvents } from "./worker_supervisor.ts";
import { createMetricsAggregator } from "./metrics_aggregator.ts";

/** The shares of the drain time after which a worker ends its calls, and after which it is killed; the rest is for the store. */
const WORKER_SHARE = 0.85;
const KILL_SHARE = 0.9;

/**
 * Starts the workers and resolves when all of them serve.
 * @throws Error the first error of a worker's start, with nothing left running.
 */
export async function startWorkers(config: Config, log: Logger): Promise<RunningServer> {
  const supervisors: WorkerSupervisor[] = [];
  const killAll = () => supervisors.forEach((supervisor) => supervisor.kill());
  await using undo = new AsyncDisposableStack();
  const embedded = config.storeUrl ? undefined : await startEmbeddedStore({ dataDir: config.dataDir, log });
  if (embedded) undo.defer(() => embedded.stop());
  if (!existsSync(config.tokenKeysFile)) generateTokenKeysFile(config.tokenKeysFile);
  await prepareCluster(config);
  // A process that ends without close() takes its workers along.
  process.once("exit", killAll);
  undo.defer(() => void process.off("exit", killAll));
  undo.defer(async () => {
    await Promise.all(supervisors.map((each) => each.stop(config.drainTimeoutMs * KILL_SHARE)));
  });

  const events = createWorkerEvents();
  const workerConfig = {
    ...config,
    storeUrl: config.storeUrl ?? embedded!.url,
    drainTimeoutMs: config.drainTimeoutMs * WORKER_SHARE,
  };
  const start = (mayStart: Promise<unknown>) => {
    const supervisor = new WorkerSupervisor({ config: workerConfig, mayStart, events, log });
    supervisors.push(supervisor);
    return supervisor.ready;
  };
  // The others listen after the first. If an address cannot be bound, Node's cluster module would throw for the second one.
  const first = start(Promise.resolve());
  const others = Array.from({ length: config.workers - 1 }, () => start(first));
  const [{ store, addresses }] = await Promise.all([first, ...others]);
  const running = undo.move();
  let closed: Promise<void> | undefined;
  return {
    addresses,
    store: embedded ? `${embedded.description} (${store})` : store,
    close: () => (closed ??= running.disposeAsync()),
  };
}

async function prepareCluster({ grpcListen, httpListen }: Config): Promise<void> {
  cluster.schedulingPolicy = cluster.SCHED_RR;
  cluster.setupPrimary({
    exec: fileURLToPath(new URL(`./worker${extname(import.meta.filename)}`, import.meta.url)),
    args: [],
    // Metrics hold numbers that JSON has not.
    serialization: "advanced",
  });
  for (const address of [grpcListen, httpListen]) {
    if (address?.kind !== "unix") continue;
    await removeStaleSocket(address.path);
    // Sockets are bound in this process, whenever a worker listens: only the owner may ever connect.
    process.umask(0o077);
  }
}

/** Does for the workers what one of them requests of the others. */
function createWorkerEvents(): WorkerEvents {
  const ready = new Set<Worker>();
  const requests = createWorkerRequests();
  const aggregator = createMetricsAggregator();

  async function metricsText(): Promise<string> {
    const sent = [...ready].map(async (worker) => [worker, await requests.send(worker)] as const);
    const reports = (await Promise.all(sent)).filter(([worker]) => ready.has(worker));
    return await aggregator.textOf(new Map(reports as [Worker, MetricsReport | undefined][]));
  }

  async function respond(worker: Worker, id: number): Promise<void> {
    sendToWorker(worker, { type: "response", id, response: await metricsText() });
  }

  return {
    onReady: (worker) => void ready.add(worker),
    onMessage(worker: Worker, message: ToPrimary) {
      if (message.type === "response") requests.settle(message.id, message.response);
      else if (message.type === "request") void respond(worker, message.id);
    },
    onExit(worker) {
      ready.delete(worker);
      requests.removeWorker(worker);
      aggregator.removeWorker(worker);
    },
  };
}
