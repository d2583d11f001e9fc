// gRPC messages as bytes: their encoding, and the frames that hold them in an HTTP/2 stream.

import { create, fromBinary, toBinary, type DescMethod, type Message } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { SessionError } from "../../domain/errors.ts";
import { CallFailure } from "../../rpc/errors.ts";
import type { ResponseMessage } from "../../rpc/routes.ts";
import { MAX_RECEIVE_BYTES } from "../host.ts";

/** A frame begins with one byte that says whether the message is compressed, and its length in four bytes. */
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

export function encodeResponse(method: DescMethod, response: ResponseMessage): Buffer {
  const bytes = toBinary(method.output, create(method.output, response));
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Puts an uncompressed message into a frame. */
export function frameMessage(message: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(FRAME_HEADER_BYTES + message.length);
  bytes[0] = 0;
  bytes.writeUInt32BE(message.length, 1);
  message.copy(bytes, FRAME_HEADER_BYTES);
  return bytes;
}

/** Splits the chunks of a stream into the messages of its frames. */
export class FrameReader {
  // Joined only once enough has arrived: a message may come byte by byte.
  #chunks: Buffer[] = [];
  #length = 0;
  #awaitedBytes = FRAME_HEADER_BYTES;

  /** Returns true if everything that has arrived has been read. */
  get isEmpty(): boolean {
    return this.#length === 0;
  }

  add(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
  }

  /** Returns the next message, or undefined if it is incomplete. @throws CallFailure if it is compressed or too large. */
  next(): Buffer | undefined {
    if (this.#length < this.#awaitedBytes) return undefined;
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)];
    const [bytes] = this.#chunks as [Buffer];
    const messageBytes = bytes.readUInt32BE(1);
    if (bytes[0] !== 0) throw new CallFailure(Code.Internal, "a compressed message without a grpc-encoding");
    if (messageBytes > MAX_RECEIVE_BYTES) {
      const text = `Received message larger than max (${messageBytes} vs ${MAX_RECEIVE_BYTES})`;
      throw new CallFailure(Code.ResourceExhausted, text);
    }
    const end = FRAME_HEADER_BYTES + messageBytes;
    this.#awaitedBytes = end;
    if (this.#length < end) return undefined;
    this.#chunks = this.#length > end ? [bytes.subarray(end)] : [];
    this.#length -= end;
    this.#awaitedBytes = FRAME_HEADER_BYTES;
    return bytes.subarray(FRAME_HEADER_BYTES, end);
  }
}
