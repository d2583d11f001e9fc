// The error of a call that failed. It holds nothing that the call sent, so it may be logged.

import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { status, type ServiceError } from "@grpc/grpc-js";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { StatusSchema } from "../../gen/google/rpc/status_pb.ts";

/** The service gave no verdict, or could not be reached: fail closed. */
export class SessionClientError extends Error {
  override readonly name = "SessionClientError";
  /** The number of the gRPC status, for example 14 for UNAVAILABLE. */
  readonly code: number;
  /** The `ErrorReason` of the contract without its prefix; undefined if the service did not send the error. */
  readonly reason: string | undefined;

  constructor(code: status, details: string, reason?: string) {
    super(`${status[code]}: ${details}`);
    this.code = code;
    this.reason = reason;
  }
}

export function toClientError({ code, details, metadata }: ServiceError): SessionClientError {
  return new SessionClientError(code, details, reasonIn(metadata?.get("grpc-status-details-bin")[0]));
}

function reasonIn(bytes: string | Buffer | undefined): string | undefined {
  if (!Buffer.isBuffer(bytes)) return undefined;
  try {
    for (const detail of fromBinary(StatusSchema, bytes).details) {
      const info = anyUnpack(detail, ErrorInfoSchema);
      if (info !== undefined) return info.reason;
    }
  } catch {
    // Something between here and the service has sent other bytes.
  }
  return undefined;
}
