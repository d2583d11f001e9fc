// gRPC messages as bytes: their encoding, and the frames that hold them in an HTTP/2 stream.

import { create, fromBinary, toBinary, type DescMethod, type Message } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { SessionError } from "../../domain/errors.ts";
import { CallFailure } from "../../rpc/errors.ts";
import type { ResponseMessage } from "../../rpc/routes.ts";
import { MAX_RECEIVE_BYTES } from "../host.ts";
import { ENVELOPE_HEADER_BYTES } from "../request_receiver.ts";

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
  const bytes = Buffer.allocUnsafe(ENVELOPE_HEADER_BYTES + message.length);
  bytes[0] = 0;
  bytes.writeUInt32BE(message.length, 1);
  message.copy(bytes, ENVELOPE_HEADER_BYTES);
  return bytes;
}

/**
 * Returns the one message of a unary request, or undefined if it is incomplete.
 * @throws CallFailure if it is compressed or too large, or if more follows it.
 */
export function readOnlyMessage(bytes: Buffer): Buffer | undefined {
  if (bytes.length < ENVELOPE_HEADER_BYTES) return undefined;
  const messageBytes = bytes.readUInt32BE(1);
  if (bytes[0] !== 0) throw new CallFailure(Code.Internal, "a compressed message without a grpc-encoding");
  if (messageBytes > MAX_RECEIVE_BYTES) {
    const text = `Received message larger than max (${messageBytes} vs ${MAX_RECEIVE_BYTES})`;
    throw new CallFailure(Code.ResourceExhausted, text);
  }
  const end = ENVELOPE_HEADER_BYTES + messageBytes;
  if (bytes.length > end) throw new CallFailure(Code.Unimplemented, "more than one message for a unary method");
  return bytes.length < end ? undefined : bytes.subarray(ENVELOPE_HEADER_BYTES);
}
