// The bytes of requests that have not arrived completely, and limits of how many there may be.

import { Code } from "@connectrpc/connect";
import { CallFailure } from "../rpc/errors.ts";

/** The limits of one port. A request is limited by MAX_RECEIVE_BYTES already. */
const MAX_CONNECTION_BYTES = 16 * 2 ** 20;
const MAX_PORT_BYTES = 128 * 2 ** 20;
const MIN_BUFFER_BYTES = 512;
const EMPTY = Buffer.alloc(0);

/** Counts the bytes of incomplete requests of one port, for each of its connections and in all. */
export class ReceiveMemory {
  readonly #maxConnectionBytes: number;
  readonly #maxBytes: number;
  readonly #ofConnection = new WeakMap<object, number>();
  #bytes = 0;

  constructor(maxConnectionBytes = MAX_CONNECTION_BYTES, maxBytes = MAX_PORT_BYTES) {
    this.#maxConnectionBytes = maxConnectionBytes;
    this.#maxBytes = maxBytes;
  }

  /** The bytes that are reserved on all connections. */
  get bytes(): number {
    return this.#bytes;
  }

  /** @throws CallFailure RESOURCE_EXHAUSTED. */
  reserve(connection: object, bytes: number): void {
    const ofConnection = (this.#ofConnection.get(connection) ?? 0) + bytes;
    if (ofConnection > this.#maxConnectionBytes || this.#bytes + bytes > this.#maxBytes) {
      throw new CallFailure(Code.ResourceExhausted, "too many bytes of incomplete requests");
    }
    this.#ofConnection.set(connection, ofConnection);
    this.#bytes += bytes;
  }

  release(connection: object, bytes: number): void {
    this.#ofConnection.set(connection, this.#ofConnection.get(connection)! - bytes);
    this.#bytes -= bytes;
  }
}

/**
 * Joins the chunks of one stream. Each chunk is a view of a whole read of its socket, up to 64 KiB, so they are copied: a client
 * that sends a byte at a time would otherwise keep 64 KiB for each.
 */
export class ReceiveBuffer {
  readonly #memory: ReceiveMemory;
  readonly #connection: object;
  #bytes: Buffer = EMPTY;
  #start = 0;
  #end = 0;

  constructor(memory: ReceiveMemory, connection: object) {
    this.#memory = memory;
    this.#connection = connection;
  }

  get length(): number {
    return this.#end - this.#start;
  }

  /** What has been appended and not been taken. Valid until the next append. */
  get content(): Buffer {
    return this.#bytes.subarray(this.#start, this.#end);
  }

  /** @throws CallFailure RESOURCE_EXHAUSTED; then the buffer is unchanged. */
  append(chunk: Buffer): void {
    const room = this.#bytes.length - this.#end;
    if (chunk.length > room) this.#grow(this.length + chunk.length);
    chunk.copy(this.#bytes, this.#end);
    this.#end += chunk.length;
  }

  /** Removes the first bytes and returns them. */
  take(length: number): Buffer {
    const taken = this.#bytes.subarray(this.#start, this.#start + length);
    this.#start += length;
    // The memory is handed over with what was taken, except if more is left in it.
    if (this.#start < this.#end) return Buffer.from(taken);
    this.clear();
    return taken;
  }

  /** Removes everything. */
  clear(): void {
    if (this.#bytes.length > 0) this.#memory.release(this.#connection, this.#bytes.length);
    this.#bytes = EMPTY;
    this.#start = this.#end = 0;
  }

  #grow(length: number): void {
    const bytes = Math.max(MIN_BUFFER_BYTES, 2 * length);
    this.#memory.reserve(this.#connection, bytes);
    // allocUnsafeSlow, because a slice of a pool would keep the pool.
    const grown = Buffer.allocUnsafeSlow(bytes);
    const kept = this.content.copy(grown);
    this.clear();
    this.#bytes = grown;
    this.#end = kept;
  }
}
