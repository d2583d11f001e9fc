// What is known of a node: whether it is ready, what is wrong with it otherwise, and when it last proved to be a primary.

import type { Logger } from "pino";
import { describeFault, type StoreFault } from "./faults.ts";

/** What is wrong, and with which node. `failure` is the error that explains it, if there was one. */
export type NodeFault = { readonly fault: StoreFault; readonly node: string | undefined; readonly failure?: unknown };

export type NodeHealthOptions = {
  readonly log: Logger;
  /** Called with each change of the fault. */
  readonly onChange: (ready: boolean) => void;
  /** How long a proof counts; Infinity if none is asked for. */
  readonly proofMs: number;
  /** The node's address, for the log. */
  readonly nodeName: () => string | undefined;
};

export class NodeHealth {
  readonly #options: NodeHealthOptions;
  #fault: StoreFault | undefined = "unreachable";
  #provenMs = -Infinity;
  /** The error that showed the fault last; undefined if there is no fault, or it has no error. */
  failure: unknown;

  constructor(options: NodeHealthOptions) {
    this.#options = options;
  }

  /** Undefined once the node is ready. */
  get fault(): StoreFault | undefined {
    return this.#fault;
  }

  /** Returns true while the last proof counts. */
  isProven(): boolean {
    return this.#options.proofMs === Infinity || performance.now() - this.#provenMs <= this.#options.proofMs;
  }

  /** Begins a connection, whose node has proven nothing yet. */
  connected(): void {
    this.#provenMs = -Infinity;
    if (this.#options.proofMs === Infinity) this.#setFault(undefined);
  }

  /** The node has accepted a write that was sent then. */
  proven(sentMs: number): void {
    this.#provenMs = Math.max(this.#provenMs, sentMs);
    // A right that is missing is one of another command.
    if (this.#fault !== "NOPERM") this.#setFault(undefined);
  }

  /** The node is connected and has this fault, or cannot be connected to because of it. */
  failed(fault: StoreFault, failure?: unknown): void {
    this.failure = failure;
    this.#setFault(fault);
  }

  /** The connection has ended. What was found out before says more than that. */
  disconnected(): void {
    if (this.#fault === undefined) this.#setFault("unreachable");
  }

  /** Every command has been tried after a fault NOPERM. */
  rightsRestored(): void {
    if (this.#fault === "NOPERM") this.#setFault(undefined);
  }

  #setFault(fault: StoreFault | undefined): void {
    if (fault === undefined) this.failure = undefined;
    const before = this.#fault;
    if (before === fault) return;
    this.#fault = fault;
    const { log, onChange, nodeName } = this.#options;
    const fields = { store: nodeName(), fault: fault ?? before };
    // The ends and the beginnings of connections have log lines of their own.
    if (fault !== undefined && !describeFault(fault).endsConnection) {
      log.warn(fields, `the store ${describeFault(fault).text}; not ready`);
    } else if (fault === undefined && !describeFault(before!).endsConnection) {
      log.info(fields, "the store serves again");
    }
    onChange(fault === undefined);
  }
}
