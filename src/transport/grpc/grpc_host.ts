// gRPC on @grpc/grpc-js, all but the calls that grpc_direct.ts takes: the fast host.

import type { DescMethod, Message } from "@bufbuild/protobuf";
import {
  Server,
  ServerCredentials,
  type handleUnaryCall,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
} from "@grpc/grpc-js";
import type { Http2Server, IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { createServer } from "node:net";
import { SessionError } from "../../domain/errors.ts";
import { toAsyncIterable, type PushStream } from "../../lib/push_stream.ts";
import type { ListenAddress } from "../../lib/listen_address.ts";
import { toGrpcStatus, type CallFailure } from "../../rpc/errors.ts";
import { createFastPath, type FastPath } from "./fast_path.ts";
import { decodeRequest, encodeResponse } from "./frames.ts";
import { listen } from "../listener.ts";
import type { IncomingCall, Pipeline, StreamCall, UnaryCall } from "../../rpc/pipeline.ts";
import type { ResponseMessage, EncodedStreamHandler, Route } from "../../rpc/routes.ts";
import type { TlsOptions } from "../tls.ts";

export type GrpcHostOptions = {
  pipeline: Pipeline;
  address: ListenAddress;
  tls?: TlsOptions | undefined;
  /** The most bytes of a request message. Default 256 KiB. */
  maxReceiveBytes?: number;
  /** Per connection. Default 1,024. */
  maxConcurrentStreams?: number;
  /** Memory that one connection may hold before its new streams are refused, in MiB. Default 64. */
  maxSessionMemoryMb?: number;
  /** How often a quiet connection is pinged, and how long the answer may take. Defaults 30,000 and 10,000. */
  keepaliveTimeMs?: number;
  keepaliveTimeoutMs?: number;
  /** Connections are asked to reconnect at this age, give or take 10%, so that load spreads. Default: never. */
  maxConnectionAgeMs?: number | undefined;
  /** Calls that are still open so long after that are cut off, for a stream would keep its connection for ever. */
  maxConnectionAgeGraceMs?: number;
};

export type Host = {
  /** What was bound. */
  readonly address: ListenAddress;
  /** Accepts nothing new, ends the streams, lets unary calls finish, and cuts off the rest after `graceMs`. */
  drain(graceMs: number): Promise<void>;
};

/** What all kinds of calls have. */
type Call = Pick<ServerUnaryCall<Buffer, Buffer>, "getDeadline" | "metadata"> & {
  on(event: "cancelled", listener: () => void): unknown;
};

export async function startGrpcHost(options: GrpcHostOptions): Promise<Host> {
  const { pipeline, tls, maxReceiveBytes = 256 * 1024 } = options;
  const server = new Server({
    "grpc.max_receive_message_length": maxReceiveBytes,
    "grpc.max_concurrent_streams": options.maxConcurrentStreams ?? 1024,
    "grpc-node.max_session_memory": options.maxSessionMemoryMb ?? 64,
    "grpc.keepalive_time_ms": options.keepaliveTimeMs ?? 30_000,
    "grpc.keepalive_timeout_ms": options.keepaliveTimeoutMs ?? 10_000,
    // Statistics that nobody asks for, on every call.
    "grpc.enable_channelz": 0,
    ...(options.maxConnectionAgeMs === undefined
      ? {}
      : {
          "grpc.max_connection_age_ms": options.maxConnectionAgeMs,
          "grpc.max_connection_age_grace_ms": options.maxConnectionAgeGraceMs ?? 30_000,
        }),
  });
  for (const route of pipeline.routes) register(server, pipeline, route);

  const injector = server.createConnectionInjector(
    tls === undefined
      ? ServerCredentials.createInsecure()
      : ServerCredentials.createSsl(
          tls.clientCa ?? null,
          [{ private_key: tls.key, cert_chain: tls.cert }],
          tls.clientCa !== undefined,
        ),
  );
  serveFirst(server, createFastPath(pipeline, maxReceiveBytes));
  // Connections are accepted here and handed in, so that both hosts listen and close in the same way.
  const acceptor = createServer({ noDelay: true }, (socket) => injector.injectConnection(socket));
  const listener = await listen(acceptor, options.address);

  return {
    address: listener.address,
    async drain(graceMs) {
      pipeline.endStreams();
      const closed = listener.closed();
      server.tryShutdown(() => undefined);
      const force = setTimeout(() => {
        server.forceShutdown();
        listener.destroyAll();
      }, graceMs);
      await closed;
      clearTimeout(force);
    },
  };
}

/**
 * Lets `serve` have the new streams that it wants before grpc-js sees them. There is no API for that: the HTTP/2 servers of a
 * grpc-js Server are in a private field.
 */
function serveFirst(server: Server, serve: FastPath): void {
  const { http2Servers } = server as unknown as { readonly http2Servers: ReadonlyMap<Http2Server, unknown> };
  for (const http2Server of http2Servers.keys()) {
    const [serveByGrpcJs, ...others] = http2Server.listeners("stream") as StreamListener[];
    if (serveByGrpcJs === undefined || others.length > 0) throw new Error("this version of grpc-js serves otherwise");
    http2Server.removeListener("stream", serveByGrpcJs);
    http2Server.on("stream", (stream, headers, flags, rawHeaders) => {
      if (!serve(stream, headers)) serveByGrpcJs(stream, headers, flags, rawHeaders);
    });
  }
}

type StreamListener = (
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  flags: number,
  rawHeaders: string[],
) => void;

// Messages pass grpc-js as bytes: what fails to decode becomes INVALID_ARGUMENT with details here, not INTERNAL there.
const asIs = (bytes: Buffer): Buffer => bytes;

function register(server: Server, pipeline: Pipeline, route: Route): void {
  const unary = (call: ServerUnaryCall<Buffer, Buffer>, callback: (error: object | null, value?: Buffer) => void) => {
    pipeline.unary(route, new GrpcUnaryCall(route, call)).then(
      (answer) => callback(null, answer),
      (failure: CallFailure) => callback(toGrpcStatus(failure)),
    );
  };
  const serverStream = (call: ServerWritableStream<Buffer, Buffer>) =>
    void send(call, pipeline.stream(route, new GrpcServerStream(route, call)));
  const bidi = (call: ServerDuplexStream<Buffer, Buffer>) =>
    void send(call, pipeline.stream(route, new GrpcBidiStream(route, call)));

  const [type, handler] =
    route.method.methodKind === "unary"
      ? (["unary", unary] as const)
      : route.method.methodKind === "server_streaming"
        ? (["serverStream", serverStream] as const)
        : (["bidi", bidi] as const);
  server.register(`/${route.name}`, handler as handleUnaryCall<Buffer, Buffer>, asIs, asIs, type);
}

/** A call of grpc-js as the pipeline wants it: one object, of which only what is asked for is looked up. */
abstract class GrpcCall<C extends Call> implements IncomingCall {
  readonly clientDeadlineMs: number;
  protected readonly route: Route;
  protected readonly call: C;

  constructor(route: Route, call: C) {
    this.route = route;
    this.call = call;
    const deadline = call.getDeadline();
    this.clientDeadlineMs = deadline === Infinity ? Infinity : performance.now() + Number(deadline) - Date.now();
  }

  get authorization(): string | undefined {
    const [authorization] = this.call.metadata.get("authorization");
    return typeof authorization === "string" ? authorization : undefined;
  }

  onCancel(listener: () => void): void {
    this.call.on("cancelled", listener);
  }
}

class GrpcUnaryCall extends GrpcCall<ServerUnaryCall<Buffer, Buffer>> implements UnaryCall<Buffer> {
  decode(): Message {
    return decodeRequest(this.route.method, this.call.request);
  }

  encode(answer: ResponseMessage): Buffer {
    return encodeResponse(this.route.method, answer);
  }
}

abstract class GrpcStream<
  C extends ServerWritableStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>,
> extends GrpcCall<C> {
  get sink(): C {
    return this.call;
  }

  encode(answer: ResponseMessage): Buffer {
    return encodeShared(this.route.method, answer);
  }
}

class GrpcServerStream extends GrpcStream<ServerWritableStream<Buffer, Buffer>> implements StreamCall<Buffer> {
  open(): Message {
    return decodeRequest(this.route.method, this.call.request);
  }
}

class GrpcBidiStream extends GrpcStream<ServerDuplexStream<Buffer, Buffer>> implements StreamCall<Buffer> {
  readonly handleEncoded: StreamCall<Buffer>["handleEncoded"];

  constructor(route: Route, call: ServerDuplexStream<Buffer, Buffer>) {
    super(route, call);
    const direct = route.encodedHandler as EncodedStreamHandler | undefined;
    this.handleEncoded =
      direct &&
      ((context, check) => {
        const decode = (bytes: Buffer) => {
          const request = decodeRequest(route.method, bytes);
          check(request);
          return request;
        };
        return direct(requestFeed(call), decode, context);
      });
  }

  open(): AsyncIterable<Message> {
    return decodedRequests(this.route.method, this.call);
  }
}

// One event goes to many streams as one message, one after the other: it is encoded for the first of them. The map is for
// those that are told of it later, out of a queue.
const encodedOnce = new WeakMap<object, Buffer>();
let latest: { readonly answer: object; readonly bytes: Buffer } | undefined;

function encodeShared(method: DescMethod, answer: ResponseMessage): Buffer {
  if (latest?.answer === answer) return latest.bytes;
  let bytes = encodedOnce.get(answer);
  if (bytes === undefined) encodedOnce.set(answer, (bytes = encodeResponse(method, answer)));
  latest = { answer, bytes };
  return bytes;
}

/** Writes the answers as fast as the client reads them, then the status. */
async function send(
  call: ServerWritableStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>,
  answers: AsyncIterable<Buffer>,
): Promise<void> {
  try {
    for await (const answer of answers) if (!call.write(answer)) await drained(call);
    call.end();
  } catch (failure) {
    call.emit("error", toGrpcStatus(failure as CallFailure));
  }
}

function drained(call: ServerWritableStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      call.off("drain", done);
      call.off("close", done);
      resolve();
    };
    call.on("drain", done);
    call.on("close", done);
    if (call.destroyed) done();
  });
}

async function* decodedRequests(method: DescMethod, call: ServerDuplexStream<Buffer, Buffer>): AsyncIterable<Message> {
  for await (const bytes of toAsyncIterable(requestFeed(call))) yield decodeRequest(method, bytes);
}

/**
 * The requests of a stream as they come. Not by the stream's own iterator: that one destroys the stream at the end, and with
 * it the status that is still to be sent.
 */
function requestFeed(call: ServerDuplexStream<Buffer, Buffer>): PushStream<Buffer> {
  return (send, end) => {
    const gone = () => end(new SessionError("CANCELLED", "the caller is gone"));
    call.on("data", (bytes: Buffer) => {
      if (!send(bytes)) call.pause();
    });
    call.once("end", () => end());
    call.once("close", gone).once("cancelled", gone);
    return () => void call.resume();
  };
}
