// The messages of gRPC as bytes: decoded and encoded here, so that a request that does not decode is refused with details.

import { create, fromBinary, toBinary, type DescMethod, type Message } from "@bufbuild/protobuf";
import { SessionError } from "../domain/errors.ts";
import type { Answer } from "./routes.ts";

/** @throws SessionError INVALID_REQUEST. */
export function decodeRequest(method: DescMethod, bytes: Uint8Array): Message {
  try {
    return fromBinary(method.input, bytes);
  } catch (error) {
    const message = `the request is not a well-formed ${method.input.typeName}`;
    throw new SessionError("INVALID_REQUEST", message, { cause: error });
  }
}

export function encodeAnswer(method: DescMethod, answer: Answer): Buffer {
  const bytes = toBinary(method.output, create(method.output, answer));
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
