// Requests for metrics from the primary to single workers, each with the response that belongs to it.

import type { Worker } from "node:cluster";
import { sendToWorker } from "./messages.ts";

const RESPONSE_TIMEOUT_MS = 1_000;

export function createWorkerRequests() {
  const pending = new Map<number, { readonly worker: Worker; readonly settle: (response: unknown) => void }>();
  let lastId = 0;
  return {
    /** Resolves to the worker's response; to undefined if the worker is busy for too long, or dies. */
    send(worker: Worker): Promise<unknown> {
      const id = ++lastId;
      return new Promise((resolve) => {
        const settle = (response: unknown): void => {
          clearTimeout(timer);
          pending.delete(id);
          resolve(response);
        };
        const timer = setTimeout(settle, RESPONSE_TIMEOUT_MS);
        pending.set(id, { worker, settle });
        sendToWorker(worker, { type: "request", id });
      });
    },
    /** Resolves the request with that id. */
    settle: (id: number, response: unknown) => pending.get(id)?.settle(response),
    /** Resolves every request to this worker to undefined, because it is gone. */
    removeWorker(worker: Worker): void {
      for (const request of pending.values()) if (request.worker === worker) request.settle(undefined);
    },
  };
}
