// What one worker asks of all of them goes through the primary, which asks each and gathers what they say.

import type { Worker } from "node:cluster";
import { sendToWorker, type WorkerRequest } from "./messages.ts";

export type WorkerRequests = {
  /** What the worker answers; undefined when it does not, because it is busy or dies. */
  ask(worker: Worker, question: WorkerRequest): Promise<unknown>;
  answered(id: number, answer: unknown): void;
  /** Nobody waits for this worker any longer. */
  gone(worker: Worker): void;
};

const ANSWER_TIMEOUT_MS = 1_000;

export function createWorkerRequests(): WorkerRequests {
  const open = new Map<number, { readonly worker: Worker; readonly settle: (answer: unknown) => void }>();
  let lastId = 0;
  return {
    ask(worker, question) {
      const id = ++lastId;
      return new Promise((resolve) => {
        const settle = (answer: unknown): void => {
          clearTimeout(timer);
          open.delete(id);
          resolve(answer);
        };
        const timer = setTimeout(settle, ANSWER_TIMEOUT_MS);
        open.set(id, { worker, settle });
        sendToWorker(worker, { type: "question", id, question });
      });
    },
    answered: (id, answer) => open.get(id)?.settle(answer),
    gone(worker) {
      for (const { worker: asked, settle } of open.values()) if (asked === worker) settle(undefined);
    },
  };
}
