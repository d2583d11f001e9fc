// A worker process: serves the connections that the primary hands it, until the primary says stop, or is gone.

import cluster from "node:cluster";
import type { Socket } from "node:net";
import type { Config } from "../config/config.ts";
import { createHandedListener } from "../transport/handed_listener.ts";
import { startServer, type RunningServer, type SiblingAnswers, type Siblings } from "../server.ts";
import { createLogger, endOnFaults } from "../ops/logger.ts";
import type { FromWorker, WorkerRequest, ToWorker } from "./messages.ts";

/** Of the time that a stop may take, what the server may use. */
const STOP_SHARE = 0.95;

const listeners = { grpc: createHandedListener(), http: createHandedListener() };
const replies = new Map<number, (reply: unknown) => void>();
let lastId = 0;
let answers: SiblingAnswers;
let stop: () => Promise<void>;

const siblings: Siblings = {
  listen: (name, acceptor, address) => listeners[name].listen(acceptor, address),
  metricsText: async () => (await ask({ kind: "metrics" })) as string,
  renewWatch: async (tenant, watchId, nonce) => (await ask({ kind: "renew", tenant, watchId, nonce })) as boolean,
  answerWith: (given) => void (answers = given),
};

// They reach the primary too, from the terminal or the supervisor, and the primary says what is to be done.
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => undefined);
process.on("message", (message: ToWorker, socket: Socket | undefined) => {
  switch (message.type) {
    case "start":
      return void start(message.config);
    case "connection":
      // One that was closed meanwhile comes without its socket.
      if (socket !== undefined) listeners[message.listener].take(socket);
      return say({ type: "accepted", id: message.id });
    case "question":
      return void answer(message.id, message.question);
    case "reply":
      replies.get(message.id)?.(message.reply);
      replies.delete(message.id);
      return;
    case "stop":
      return void stop();
  }
});
say({ type: "hello" });

async function start(config: Config): Promise<void> {
  const log = createLogger(config).child({ worker: process.pid });
  endOnFaults(log);
  // Node ends a worker whose primary is gone.
  cluster.worker!.once("disconnect", () => log.fatal("the primary is gone"));
  try {
    const server = await startServer(config, log, siblings);
    stop = () => end(server, config.drainTimeoutMs * STOP_SHARE);
    say({ type: "ready", store: server.store });
  } catch (error) {
    log.debug({ err: error }, "the start failed");
    const { message, code, reason } = error as Error & { code?: unknown; reason?: unknown };
    process.send!({ type: "failed", message, code, reason } satisfies FromWorker, () => process.exit(1));
  }
}

async function end(server: RunningServer, timeoutMs: number): Promise<void> {
  setTimeout(() => process.exit(), timeoutMs);
  await server.close();
  process.exit();
}

function ask(question: WorkerRequest): Promise<unknown> {
  return new Promise((resolve) => {
    replies.set(++lastId, resolve);
    say({ type: "ask", id: lastId, question });
  });
}

async function answer(id: number, question: WorkerRequest): Promise<void> {
  const given =
    question.kind === "metrics"
      ? await answers.metrics()
      : answers.renewWatch(question.tenant, question.watchId, question.nonce);
  say({ type: "answer", id, answer: given });
}

function say(message: FromWorker): void {
  process.send!(message);
}
