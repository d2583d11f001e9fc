// The messages between the primary and its workers. All of them run the same version.

import type { Worker } from "node:cluster";
import type { Config } from "../config/config.ts";
import type { RunningServer } from "../server.ts";

/**
 * A request for metrics. A worker requests those of all workers of the primary, which requests those of each worker: a worker
 * responds with a MetricsReport, and the primary with the text of all of them.
 */
type Request = { readonly type: "request"; readonly id: number };
type Response = { readonly type: "response"; readonly id: number; readonly response: unknown };

export type ToWorker =
  | { readonly type: "start"; readonly config: Config }
  | { readonly type: "stop" }
  | Request
  | Response;

export type ToPrimary =
  /** The worker can receive messages from now on. */
  | { readonly type: "loaded" }
  /** The worker serves calls. */
  | ({ readonly type: "ready" } & WorkerReady)
  /** The worker could not start, and exits. */
  | { readonly type: "failed"; readonly message: string; readonly code: unknown; readonly reason: unknown }
  | Request
  | Response;

/** What a worker reports when it serves: its store, and the addresses, which all workers share. */
export type WorkerReady = Pick<RunningServer, "store" | "addresses">;

/** Sends a message to a worker. Does nothing if the worker is gone: its supervisor notices that. */
export function sendToWorker(worker: Worker, message: ToWorker): void {
  worker.send(message, () => undefined);
}

/** Sends a message to the primary; resolves when it is sent. */
export function sendToPrimary(message: ToPrimary): Promise<void> {
  return new Promise((resolve) => process.send!(message, () => resolve()));
}
