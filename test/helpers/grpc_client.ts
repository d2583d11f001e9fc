// A typed client of SessionService over grpc-js, for tests: one method for each unary RPC, errors with their reason.

import { fromBinary, toBinary, create, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import type { DescMethodUnary } from "@bufbuild/protobuf";
import { anyUnpack, durationMs } from "@bufbuild/protobuf/wkt";
import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { StatusSchema } from "../../gen/google/rpc/status_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";

type Methods = typeof SessionService.method;
type UnaryName = { [K in keyof Methods]: Methods[K] extends DescMethodUnary ? K : never }[keyof Methods];

type EndInput = Methods["endSessions"]["input"];
type EndOutput = Methods["endSessions"]["output"];

export type CallOptions = {
  /** Default: 5,000. */
  timeoutMs?: number;
  metadata?: Record<string, string>;
};

export type AuthorityClient = {
  [K in UnaryName]: (
    request: MessageInitShape<Methods[K]["input"]>,
    options?: CallOptions,
  ) => Promise<MessageShape<Methods[K]["output"]>>;
} & {
  /** Runs an EndSessions to its end. Returns the last report of its progress. */
  endSessions(request: MessageInitShape<EndInput>, options?: CallOptions): Promise<MessageShape<EndOutput>>;
  /** Sends an encoded request. Returns the encoded response. */
  raw(method: UnaryName, request: Uint8Array, options?: CallOptions): Promise<Buffer>;
  close(): void;
};

/** A failed call: the number of its gRPC code, and its error details. */
export class CallError extends Error {
  readonly code: number;
  readonly reason: string | undefined;
  readonly domain: string | undefined;
  readonly fields: string[];
  readonly retryInfo: boolean;
  /** The delay of google.rpc.RetryInfo. */
  readonly retryAfterMs: number | undefined;

  constructor(error: ServiceError) {
    super(`${error.code} ${error.details}`);
    this.code = error.code;
    const details = errorDetails(error);
    this.reason = details.info?.reason;
    this.domain = details.info?.domain;
    this.fields = details.badRequest?.fieldViolations.map((violation) => violation.field) ?? [];
    this.retryInfo = details.retryInfo !== undefined;
    this.retryAfterMs = details.retryInfo?.retryDelay && durationMs(details.retryInfo.retryDelay);
  }
}

function errorDetails(error: ServiceError) {
  const [bytes] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (!(bytes instanceof Buffer)) return {};
  const status = fromBinary(StatusSchema, bytes);
  const unpack = <D extends typeof ErrorInfoSchema | typeof BadRequestSchema | typeof RetryInfoSchema>(schema: D) =>
    status.details.map((any) => anyUnpack(any, schema)).find((detail) => detail !== undefined);
  return {
    info: unpack(ErrorInfoSchema) as MessageShape<typeof ErrorInfoSchema> | undefined,
    badRequest: unpack(BadRequestSchema) as MessageShape<typeof BadRequestSchema> | undefined,
    retryInfo: unpack(RetryInfoSchema) as MessageShape<typeof RetryInfoSchema> | undefined,
  };
}

/** @param address host:port or unix:/path. Clients of one address share a connection unless `ownConnection` is true. */
export function createAuthorityClient(address: string, { ownConnection = false } = {}): AuthorityClient {
  const client = new Client(address, credentials.createInsecure(), {
    "grpc.max_receive_message_length": -1,
    "grpc.use_local_subchannel_pool": ownConnection ? 1 : 0,
    ...(ownConnection && { "grpc.initial_reconnect_backoff_ms": 50, "grpc.max_reconnect_backoff_ms": 200 }),
  });

  function raw(name: UnaryName, request: Uint8Array, options: CallOptions = {}): Promise<Buffer> {
    const method = SessionService.method[name];
    return new Promise((resolve, reject) => {
      client.makeUnaryRequest(
        `/${SessionService.typeName}/${method.name}`,
        (bytes: Uint8Array) => Buffer.from(bytes),
        (bytes: Buffer) => bytes,
        request,
        metadataOf(options),
        { deadline: deadlineOf(options) },
        (error, response) => (error ? reject(new CallError(error)) : resolve(response!)),
      );
    });
  }

  const unary: Record<string, unknown> = {};
  for (const [name, method] of Object.entries(SessionService.method)) {
    if (method.methodKind !== "unary") continue;
    unary[name] = async (request: MessageInitShape<typeof method.input>, options?: CallOptions) => {
      const bytes = await raw(name as UnaryName, toBinary(method.input, create(method.input, request)), options);
      return fromBinary(method.output, bytes);
    };
  }
  function endSessions(request: MessageInitShape<EndInput>, options: CallOptions = {}) {
    const { input, output, name } = SessionService.method.endSessions;
    const stream = client.makeServerStreamRequest(
      `/${SessionService.typeName}/${name}`,
      (message: MessageShape<EndInput>) => Buffer.from(toBinary(input, message)),
      (bytes: Buffer) => fromBinary(output, bytes),
      create(input, request),
      metadataOf(options),
      { deadline: deadlineOf(options) },
    );
    return new Promise<MessageShape<EndOutput>>((resolve, reject) => {
      let last: MessageShape<EndOutput>;
      stream.on("data", (progress: MessageShape<EndOutput>) => (last = progress));
      stream.on("end", () => resolve(last));
      stream.on("error", (error: ServiceError) => reject(new CallError(error)));
    });
  }

  return { ...unary, endSessions, raw, close: () => client.close() } as AuthorityClient;
}

function metadataOf(options: CallOptions): Metadata {
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(options.metadata ?? {})) metadata.set(key, value);
  return metadata;
}

const deadlineOf = ({ timeoutMs = 5000 }: CallOptions) => Date.now() + timeoutMs;
