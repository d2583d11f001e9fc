// A worker process: runs the server on the addresses that all workers share, until the primary stops it or is gone.

import cluster from "node:cluster";
import type { Config } from "../config/config.ts";
import { startServer, type RunningServer, type SiblingHandlers, type Siblings } from "../server.ts";
import { createLogger, endOnFaults, openLogOutput } from "../ops/logger.ts";
import { sendToPrimary, type ToWorker, type WorkerRequest } from "./messages.ts";

/** The share of the drain time that the server may use; the rest is for the exit of the process. */
const STOP_SHARE = 0.95;

const responses = new Map<number, (response: unknown) => void>();
let lastId = 0;
let handlers: SiblingHandlers;
let stop: () => Promise<void>;

const siblings: Siblings = {
  metricsText: async () => (await request({ kind: "metrics" })) as string,
  renewWatch: async (tenant, watchId, nonce) => (await request({ kind: "renew", tenant, watchId, nonce })) as boolean,
  handle: (given) => void (handlers = given),
};

// A terminal or a process manager may signal all processes of the group. Only the primary acts on that.
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => undefined);
process.on("message", (message: ToWorker) => {
  switch (message.type) {
    case "start":
      return void start(message.config);
    case "request":
      return void respond(message.id, message.request);
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

/** Sends a request to all workers, by way of the primary. */
function request(workerRequest: WorkerRequest): Promise<unknown> {
  return new Promise((resolve) => {
    responses.set(++lastId, resolve);
    void sendToPrimary({ type: "request", id: lastId, request: workerRequest });
  });
}

/** Responds to the request of another worker. */
async function respond(id: number, workerRequest: WorkerRequest): Promise<void> {
  const response =
    workerRequest.kind === "metrics"
      ? await handlers.metrics()
      : handlers.renewWatch(workerRequest.tenant, workerRequest.watchId, workerRequest.nonce);
  void sendToPrimary({ type: "response", id, response });
}
