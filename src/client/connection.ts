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
import { SessionClientError, toClientError } from "./errors.ts";

/** The credentials that the client presents to the service. */
export type ClientCredentials = {
  /** Sent as `authorization: Bearer`. */
  readonly apiKey?: string;
  /** PEM files. Default: a connection without TLS. */
  readonly tls?: { readonly caFile?: string; readonly certFile?: string; readonly keyFile?: string };
};

export type ServiceConnection = ReturnType<typeof openConnection>;

export function openConnection(address: string, credentials: ClientCredentials) {
  const metadata = new Metadata();
  if (credentials.apiKey !== undefined) metadata.set("authorization", authorizationOf(credentials.apiKey));
  const client = new Client(address, channelCredentials(credentials), {
    // The client reconnects soon after the service comes back.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1000,
    "grpc.keepalive_time_ms": 10_000,
    "grpc.keepalive_timeout_ms": 3000,
    "grpc.max_receive_message_length": -1,
  });
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
          if (error) reject(toClientError(error));
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

    waitUntilConnected(timeoutMs: number): Promise<void> {
      return new Promise((resolve, reject) => {
        client.waitForReady(Date.now() + timeoutMs, (error) => {
          if (error === undefined) resolve();
          else reject(new SessionClientError(status.UNAVAILABLE, `no connection within ${timeoutMs} ms`));
        });
      });
    },

    close(): void {
      for (const call of pending) call.cancel();
      client.close();
    },
  };
}

function deadlineExceeded(): SessionClientError {
  return new SessionClientError(status.DEADLINE_EXCEEDED, "the response came after the deadline");
}

/** @throws TypeError for a key that no header can have; grpc-js would throw an error whose text holds the key. */
function authorizationOf(apiKey: string): string {
  if (!/^[!-~]+$/.test(apiKey)) {
    throw new TypeError("credentials.apiKey has a character that no key has, for example a line break at its end");
  }
  return `Bearer ${apiKey}`;
}

function channelCredentials({ tls }: ClientCredentials): ChannelCredentials {
  if (tls === undefined) return ChannelCredentials.createInsecure();
  const read = (file: string | undefined) => (file === undefined ? null : readFileSync(file));
  return ChannelCredentials.createSsl(read(tls.caFile), read(tls.keyFile), read(tls.certFile));
}
