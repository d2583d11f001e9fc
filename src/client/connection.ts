// The connection to the service: one gRPC channel with its credentials, and typed calls on it.

import { readFileSync } from "node:fs";
import {
  create,
  fromBinary,
  toBinary,
  type DescMethod,
  type DescMethodBiDiStreaming,
  type DescMethodUnary,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { ChannelCredentials, Client, Metadata, status, type ClientUnaryCall } from "@grpc/grpc-js";
import { nowMs } from "./clock.ts";

/** The credentials that the client presents to the service. */
export type ClientCredentials = {
  /** Sent as `authorization: Bearer`. */
  readonly apiKey?: string;
  /** PEM files. Default: a connection without TLS. */
  readonly tls?: { readonly caFile?: string; readonly certFile?: string; readonly keyFile?: string };
};

export type ServiceConnection = ReturnType<typeof openConnection>;

export function openConnection(address: string, credentials: ClientCredentials) {
  const client = new Client(address, channelCredentials(credentials), {
    // The client reconnects soon after the service comes back.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1000,
    "grpc.keepalive_time_ms": 10_000,
    "grpc.keepalive_timeout_ms": 3000,
    "grpc.max_receive_message_length": -1,
  });

  const metadata = new Metadata();
  if (credentials.apiKey !== undefined) metadata.set("authorization", `Bearer ${credentials.apiKey}`);
  const pending = new Set<ClientUnaryCall>();

  function argumentsOf<I extends DescMethod>(method: I, request: MessageInitShape<I["input"]>) {
    return [
      `/${method.parent.typeName}/${method.name}`,
      (init: MessageInitShape<I["input"]>) => Buffer.from(toBinary(method.input, create(method.input, init))),
      (bytes: Buffer) => fromBinary(method.output, bytes) as MessageShape<I["output"]>,
      request,
      metadata,
    ] as const;
  }

  return {
    /** Rejects if the response is read only after the deadline, because its age is unknown then. */
    unary<I extends DescMethodUnary>(
      method: I,
      request: MessageInitShape<I["input"]>,
      timeoutMs: number,
    ): Promise<MessageShape<I["output"]>> {
      return new Promise((resolve, reject) => {
        const deadlineMs = nowMs() + timeoutMs;
        const options = { deadline: Date.now() + timeoutMs };
        const call = client.makeUnaryRequest(...argumentsOf(method, request), options, (error, response) => {
          pending.delete(call);
          if (error) reject(error);
          else if (nowMs() > deadlineMs) reject(deadlineExceeded());
          else resolve(response!);
        });
        pending.add(call);
      });
    },

    /** Opens a stream and sends its first request. */
    bidiStream<I extends DescMethodBiDiStreaming>(method: I, first: MessageInitShape<I["input"]>) {
      const [path, serialize, deserialize, request] = argumentsOf(method, first);
      const stream = client.makeBidiStreamRequest(path, serialize, deserialize, metadata);
      stream.write(request);
      return stream;
    },

    close(): void {
      for (const call of pending) call.cancel();
      client.close();
    },
  };
}

function deadlineExceeded(): Error {
  const details = "the response came after the deadline";
  return Object.assign(new Error(`DEADLINE_EXCEEDED: ${details}`), { code: status.DEADLINE_EXCEEDED, details });
}

function channelCredentials({ tls }: ClientCredentials): ChannelCredentials {
  if (tls === undefined) return ChannelCredentials.createInsecure();
  const read = (file: string | undefined) => (file === undefined ? null : readFileSync(file));
  return ChannelCredentials.createSsl(read(tls.caFile), read(tls.keyFile), read(tls.certFile));
}
