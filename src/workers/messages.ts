// What the primary and its workers say to each other. All of them run the same version.

import type { Worker } from "node:cluster";
import type { MessageOptions, SendHandle } from "node:child_process";
import type { Config } from "../config/config.ts";
import type { ListenerName } from "../server.ts";

/** What a worker asks of its siblings, by way of the primary. */
export type WorkerRequest =
  /** Answer: a MetricsReport. The reply to who asked: the text of all of them. */
  | { readonly kind: "metrics" }
  /** Answer and reply: whether one of them has that watcher, and has renewed it. */
  | { readonly kind: "renew"; readonly tenant: string; readonly watchId: string; readonly nonce: string };

export type ToWorker =
  | { readonly type: "start"; readonly config: Config }
  /** Comes with the socket. */
  | { readonly type: "connection"; readonly id: number; readonly listener: ListenerName }
  | { readonly type: "question"; readonly id: number; readonly question: WorkerRequest }
  | { readonly type: "reply"; readonly id: number; readonly reply: unknown }
  | { readonly type: "stop" };

export type FromWorker =
  /** It listens to what it is told from now on. */
  | { readonly type: "hello" }
  | { readonly type: "ready"; readonly store: string }
  | { readonly type: "failed"; readonly message: string; readonly code: unknown; readonly reason: unknown }
  | { readonly type: "accepted"; readonly id: number }
  | { readonly type: "ask"; readonly id: number; readonly question: WorkerRequest }
  | { readonly type: "answer"; readonly id: number; readonly answer: unknown };

/** Tells a worker. One that is gone hears nothing, and its end is told elsewhere. */
export function sendToWorker(worker: Worker, message: ToWorker, handle?: SendHandle, options?: MessageOptions): void {
  worker.send(message, handle, options, () => undefined);
}
