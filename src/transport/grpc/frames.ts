// The messages of gRPC as bytes: decoded and encoded here, so that a request that does not decode is refused with details;
// and how they stand in a stream.

import { create, fromBinary, toBinary, type DescMethod, type Message } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { SessionError } from "../../domain/errors.ts";
import { CallFailure } from "../../rpc/errors.ts";
import type { ResponseMessage } from "../../rpc/routes.ts";

/** Before a message: whether it is compressed, and its length. */
const FRAME_HEADER_BYTES = 5;

/** @throws SessionError INVALID_REQUEST. */
export function decodeRequest(method: DescMethod, bytes: Uint8Array): Message {
  try {
    return fromBinary(method.input, bytes);
  } catch (error) {
    const message = `the request is not a well-formed ${method.input.typeName}`;
    throw new SessionError("INVALID_REQUEST", message, { cause: error });
  }
}

export function encodeResponse(method: DescMethod, answer: ResponseMessage): Buffer {
  const bytes = toBinary(method.output, create(method.output, answer));
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A message as it stands in a stream, not compressed. */
export function frameMessage(message: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(FRAME_HEADER_BYTES + message.length);
  bytes[0] = 0;
  bytes.writeUInt32BE(message.length, 1);
  message.copy(bytes, FRAME_HEADER_BYTES);
  return bytes;
}

/** Takes what comes in a stream apart into its messages. */
export class MessageReader {
  readonly #maxBytes: number;
  // Joined only when what is awaited is there: a message may come byte by byte.
  #chunks: Buffer[] = [];
  #length = 0;
  #awaited = FRAME_HEADER_BYTES;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Whether all that came has been taken. */
  get isEmpty(): boolean {
    return this.#length === 0;
  }

  add(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
  }

  /** The next message; undefined while it is not there. @throws CallFailure when there can be none. */
  next(): Buffer | undefined {
    if (this.#length < this.#awaited) return undefined;
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)];
    const [bytes] = this.#chunks as [Buffer];
    const messageBytes = bytes.readUInt32BE(1);
    if (bytes[0] !== 0) throw new CallFailure(Code.Internal, "a compressed message without a grpc-encoding");
    if (messageBytes > this.#maxBytes) {
      const text = `Received message larger than max (${messageBytes} vs ${this.#maxBytes})`;
      throw new CallFailure(Code.ResourceExhausted, text);
    }
    const end = FRAME_HEADER_BYTES + messageBytes;
    this.#awaited = end;
    if (this.#length < end) return undefined;
    this.#chunks = this.#length > end ? [bytes.subarray(end)] : [];
    this.#length -= end;
    this.#awaited = FRAME_HEADER_BYTES;
    return bytes.subarray(FRAME_HEADER_BYTES, end);
  }
}
