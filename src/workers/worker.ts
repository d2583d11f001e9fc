// A worker process: runs the server on the addresses that all workers share, until the primary stops it or is gone.

import cluster from "node:cluster";
import type { Config } from "../config/config.ts";
import type { MetricsReport } from "../ops/metrics.ts";
import { startServer, type RunningServer, type Siblings } from "../server.ts";
import { createLogger, endOnFaults, openLogOutput } from "../ops/logger.ts";
import { sendToPrimary, type ToWorker } from "./messages.ts";

/** The share of the drain time that the server may use; the rest is for the exit of the process. */
const STOP_SHARE = 0.95;

const responses = new Map<number, (response: unknown) => void>();
let lastId = 0;
let reportMetrics: () => Promise<MetricsReport>;
let stop: () => Promise<void>;

const siblings: Siblings = {
  metricsText: async () => (await requestMetrics()) as string,
  handleMetrics: (report) => void (reportMetrics = report),
};

// A terminal or a process manager may signal all processes of the group. Only the primary acts on that.
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => undefined);
process.on("message", (message: ToWorker) => {
  switch (message.type) {
    case "start":
      return void start(message.config);
    case "request":
      return void respond(message.id);
    case "response":
      responses.get(message.id)?.(message.response);
      responses.delete(message.id);
      return;
    case "stop":
      return void stop();
  }
});
void sendToPrimary({ type: "loaded" });

async function start(config: Config): Promise<void> {
  const log = createLogger(config, await openLogOutput()).child({ worker: process.pid });
  endOnFaults(log);
  // Node ends a worker whose primary is gone.
  cluster.worker!.once("disconnect", () => log.fatal("the primary process is gone; this worker exits"));
  try {
    const server = await startServer(config, log, siblings);
    stop = () => end(server, config.drainTimeoutMs * STOP_SHARE);
    void sendToPrimary({ type: "ready", store: server.store, addresses: server.addresses });
  } catch (error) {
    log.debug({ err: error }, "start failed");
    const { message, code, reason } = error as Error & { code?: unknown; reason?: unknown };
    await sendToPrimary({ type: "failed", message, code, reason });
    process.exit(1);
  }
}

async function end(server: RunningServer, timeoutMs: number): Promise<void> {
  setTimeout(() => process.exit(), timeoutMs);
  await server.close();
  process.exit();
}

/** Requests the metrics of all workers from the primary. */
function requestMetrics(): Promise<unknown> {
  return new Promise((resolve) => {
    responses.set(++lastId, resolve);
    void sendToPrimary({ type: "request", id: lastId });
  });
}

/** Responds to the primary with this worker's own metrics. */
async function respond(id: number): Promise<void> {
  void sendToPrimary({ type: "response", id, response: await reportMetrics() });
}
