// Both hosts over a small implementation of the test's own, and a client that sends and receives bytes for every wire.

import { fromBinary, type DescMethod, type JsonValue, type MessageShape } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { Client, credentials, Metadata, status, type ChannelCredentials, type ServiceError } from "@grpc/grpc-js";
import pino from "pino";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { StatusSchema, type Status } from "../../gen/google/rpc/status_pb.ts";
import { Health } from "../../gen/grpc/health/v1/health_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { createAuthentication, type Authenticate } from "../../src/auth/authentication.ts";
import { startGrpcHost } from "../../src/transport/grpc/grpc_host.ts";
import { startHttpHost } from "../../src/transport/http/http_host.ts";
import type { Pages } from "../../src/ops/pages.ts";
import { listenAddressText, type ListenAddress } from "../../src/lib/listen_address.ts";
import { createPipeline, type PipelineOptions } from "../../src/rpc/pipeline.ts";
import { createCallLog } from "../../src/ops/call_log.ts";
import { healthRoutes } from "../../src/ops/health.ts";
import { createReadiness, readinessPage } from "../../src/ops/readiness.ts";
import { reflectionRoutes } from "../../src/ops/reflection.ts";
import type { ConnectionLimits } from "../../src/transport/connections.ts";
import type { TlsOptions } from "../../src/transport/host.ts";
import { createRequestValidation } from "../../src/rpc/request_validation.ts";
import { sessionRoutes } from "../../src/rpc/routes.ts";
import type { EncodedHandlers, SessionServiceImpl } from "../../src/service/handlers.ts";

const ANY_PORT: ListenAddress = { kind: "tcp", host: "127.0.0.1", port: 0 };
const validation = createRequestValidation();
validation.warm();

export type HostsOptions = Partial<Omit<PipelineOptions, "routes">> & {
  authenticate?: Authenticate;
  encodedHandlers?: EncodedHandlers;
  grpcAddress?: ListenAddress;
  httpAddress?: ListenAddress;
  tls?: TlsOptions;
  pages?: Pages;
  corsOrigins?: readonly string[];
  connectionLimits?: ConnectionLimits;
  maxConnectionAgeMs?: number;
  maxConnectionAgeGraceMs?: number;
};

export type Hosts = Awaited<ReturnType<typeof startHosts>>;

export async function startHosts(implementation: SessionServiceImpl, options: HostsOptions = {}) {
  const { grpcAddress, httpAddress, tls, pages = {}, maxConnectionAgeMs, maxConnectionAgeGraceMs, ...others } = options;
  const { encodedHandlers = {}, corsOrigins = [], connectionLimits = {}, ...pipelineOptions } = others;
  const log: Record<string, unknown>[] = [];
  const logger = pino({ level: "trace" }, { write: (line: string) => void log.push(JSON.parse(line)) });
  const readiness = createReadiness();
  const pipeline = createPipeline({
    routes: [
      ...sessionRoutes(implementation, encodedHandlers),
      ...healthRoutes(readiness),
      ...reflectionRoutes([SessionService, Health]),
    ],
    authenticate: createAuthentication({ logger }).authenticate,
    validate: validation.validate,
    requestTimeoutMs: 5_000,
    slowReaderMs: 10_000,
    observers: [createCallLog(logger, 1)],
    ...pipelineOptions,
  });
  const age = { maxConnectionAgeMs, ...(maxConnectionAgeGraceMs !== undefined && { maxConnectionAgeGraceMs }) };
  const grpc = await startGrpcHost({ pipeline, address: grpcAddress ?? ANY_PORT, tls, connectionLimits, ...age });
  const http = await startHttpHost({
    pipeline,
    logger,
    address: httpAddress ?? ANY_PORT,
    tls,
    corsOrigins,
    connectionLimits,
    pages: { "/readyz": () => readinessPage(readiness), ...pages },
  });
  return {
    pipeline,
    readiness,
    /** The parsed lines of the log. */
    log,
    grpc,
    http,
    grpcTarget: listenAddressText(grpc.address),
    httpTarget: listenAddressText(http.address),
    httpUrl: `http://${listenAddressText(http.address)}`,
    close: () => Promise.all([grpc.drain(0), http.drain(0)]),
  };
}

export type CallOptions = {
  timeoutMs?: number;
  headers?: Record<string, string>;
  /** Aborting it cancels the call. */
  signal?: AbortSignal;
};

/** One way to make unary calls. Fails with a WireError. */
export type Wire = {
  readonly name: string;
  call(method: DescMethod, request: Uint8Array, options?: CallOptions): Promise<Uint8Array>;
  close(): void;
};

/** A failed call, in the same form on every wire. */
export class WireError extends Error {
  /** The gRPC code's name. */
  readonly code: string;
  readonly reason: string | undefined;
  readonly domain: string | undefined;
  readonly fields: string[];
  readonly retryAfterMs: number | undefined;

  constructor(code: string, message: string, details: readonly Status["details"][number][]) {
    super(message);
    this.code = code;
    let info: MessageShape<typeof ErrorInfoSchema> | undefined;
    let badRequest: MessageShape<typeof BadRequestSchema> | undefined;
    let retryInfo: MessageShape<typeof RetryInfoSchema> | undefined;
    for (const detail of details) {
      info ??= anyUnpack(detail, ErrorInfoSchema);
      badRequest ??= anyUnpack(detail, BadRequestSchema);
      retryInfo ??= anyUnpack(detail, RetryInfoSchema);
    }
    this.reason = info?.reason;
    this.domain = info?.domain;
    this.fields = badRequest?.fieldViolations.map((violation) => violation.field) ?? [];
    const delay = retryInfo?.retryDelay;
    this.retryAfterMs = delay && Number(delay.seconds) * 1000 + delay.nanos / 1e6;
  }
}

/** Every wire format that the two hosts speak. */
export function wiresOf(hosts: Hosts): Wire[] {
  return [
    grpcWire("gRPC host", hosts.grpcTarget),
    grpcWire("HTTP host, gRPC", hosts.httpTarget),
    grpcWebWire(hosts.httpUrl),
    connectWire(hosts.httpUrl),
  ];
}

/** grpc-js as the client. */
export function grpcWire(name: string, target: string, creds?: ChannelCredentials): Wire {
  const client = new Client(target, creds ?? credentials.createInsecure());
  return {
    name,
    call(method, request, { timeoutMs, headers = {}, signal } = {}) {
      const metadata = new Metadata();
      for (const [key, value] of Object.entries(headers)) metadata.set(key, value);
      return new Promise((resolve, reject) => {
        const call = client.makeUnaryRequest(
          pathOf(method),
          (bytes: Uint8Array) => Buffer.from(bytes),
          (bytes: Buffer) => bytes,
          request,
          metadata,
          timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs },
          (error, response) => (error ? reject(wireErrorOf(error)) : resolve(response!)),
        );
        signal?.addEventListener("abort", () => call.cancel());
      });
    },
    close: () => client.close(),
  };
}

export function wireErrorOf(error: ServiceError): WireError {
  const [bytes] = error.metadata?.get("grpc-status-details-bin") ?? [];
  const details = bytes instanceof Buffer ? fromBinary(StatusSchema, bytes).details : [];
  // connect encodes these characters too, as it may; grpc-js does not decode them.
  const message = error.details.replaceAll(/%(2C|2F|3A|3B)/g, decodeURIComponent);
  return new WireError(status[error.code], message, details);
}

function connectWire(baseUrl: string): Wire {
  return {
    name: "HTTP host, Connect",
    async call(method, request, options = {}) {
      const timeout: Record<string, string> =
        options.timeoutMs === undefined ? {} : { "connect-timeout-ms": String(options.timeoutMs) };
      const headers = { "content-type": "application/proto", ...timeout, ...options.headers };
      const response = await post(baseUrl + pathOf(method), request, headers, options.signal);
      const body = await response.bytes();
      if (response.ok) return body;
      throw wireErrorOfJson(JSON.parse(Buffer.from(body).toString()));
    },
    close: () => undefined,
  };
}

/** The error in the body of Connect's unary form. */
export function wireErrorOfJson(error: { code: string; message: string; details?: { type: string; value: string }[] }) {
  const details = (error.details ?? []).map(({ type, value }) => ({
    $typeName: "google.protobuf.Any" as const,
    typeUrl: `type.googleapis.com/${type}`,
    value: Buffer.from(value, "base64"),
  }));
  const code = error.code === "canceled" ? "CANCELLED" : error.code.toUpperCase();
  return new WireError(code, error.message, details);
}

function grpcWebWire(baseUrl: string): Wire {
  return {
    name: "HTTP host, gRPC-Web",
    async call(method, request, options = {}) {
      const timeout: Record<string, string> =
        options.timeoutMs === undefined ? {} : { "grpc-timeout": grpcTimeoutOf(options.timeoutMs) };
      const headers = { "content-type": "application/grpc-web+proto", ...timeout, ...options.headers };
      const envelope = Buffer.alloc(5 + request.length);
      envelope.writeUInt32BE(request.length, 1);
      envelope.set(request, 5);
      const response = await post(baseUrl + pathOf(method), envelope, headers, options.signal);
      let message: Buffer | undefined;
      let trailers = response.headers;
      for (let rest = Buffer.from(await response.bytes()); rest.length > 0;) {
        const end = 5 + rest.readUInt32BE(1);
        const frame = rest.subarray(5, end);
        if (rest[0] === 0x80) trailers = new Headers(frame.toString().trim().split("\r\n").map(pairOf));
        else message = frame;
        rest = rest.subarray(end);
      }
      if (trailers.get("grpc-status") === "0") return message!;
      const bytes = trailers.get("grpc-status-details-bin");
      const details = bytes === null ? [] : fromBinary(StatusSchema, Buffer.from(bytes, "base64")).details;
      const text = decodeURIComponent(trailers.get("grpc-message") ?? "");
      throw new WireError(status[Number(trailers.get("grpc-status"))]!, text, details);
    },
    close: () => undefined,
  };
}

/** Formats a grpc-timeout header, which has at most eight digits. */
function grpcTimeoutOf(timeoutMs: number): string {
  return timeoutMs < 1e8 ? `${timeoutMs}m` : `${timeoutMs / 1000}S`;
}

function pairOf(line: string): [string, string] {
  const colon = line.indexOf(":");
  return [line.slice(0, colon), line.slice(colon + 1).trim()];
}

function post(url: string, body: Uint8Array, headers: Record<string, string>, signal: AbortSignal | undefined) {
  return fetch(url, { method: "POST", body: Buffer.from(body), headers, ...(signal && { signal }) });
}

export function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** Posts JSON as curl does. Returns the status and the parsed response. */
export async function postJson(baseUrl: string, method: DescMethod, body: string | Buffer) {
  const response = await post(
    baseUrl + pathOf(method),
    Buffer.from(body),
    { "content-type": "application/json" },
    undefined,
  );
  return { status: response.status, json: (await response.json()) as Record<string, JsonValue> };
}
