// The gRPC host: grpc-js, and the fast path for the methods that are called most.

import { Server, ServerCredentials, type ServerOptions } from "@grpc/grpc-js";
import { createServer } from "node:net";
import type { ListenAddress } from "../../lib/listen_address.ts";
import type { Pipeline } from "../../rpc/pipeline.ts";
import type { Host } from "../host.ts";
import { listen } from "../listener.ts";
import type { TlsOptions } from "../tls.ts";
import { createFastPath } from "./fast_path.ts";
import { registerRoute } from "./grpc_calls.ts";
import { installFastPath } from "./stream_dispatch.ts";

export type GrpcHostOptions = {
  pipeline: Pipeline;
  address: ListenAddress;
  tls?: TlsOptions | undefined;
  /** The maximum size of a request message. Default 256 KiB. */
  maxReceiveBytes?: number;
  /** Per connection. Default 1,024. */
  maxConcurrentStreams?: number;
  /** The memory in MiB that one connection may use before its new streams are refused. Default 64. */
  maxSessionMemoryMb?: number;
  /** How often an idle connection is pinged, and how long its reply may take. Defaults 30,000 and 10,000. */
  keepaliveTimeMs?: number;
  keepaliveTimeoutMs?: number;
  /** The age, give or take 10%, at which a connection is asked to reconnect, so that load spreads. Default: never. */
  maxConnectionAgeMs?: number | undefined;
  /** How long after that open calls are cut off; a stream would keep its connection for ever. Default 30,000. */
  maxConnectionAgeGraceMs?: number;
};

export async function startGrpcHost(options: GrpcHostOptions): Promise<Host> {
  const { pipeline, tls, maxReceiveBytes = 256 * 1024 } = options;
  const server = new Server(channelOptions(options, maxReceiveBytes));
  for (const route of pipeline.routes) registerRoute(server, pipeline, route);
  const injector = server.createConnectionInjector(serverCredentials(tls));
  installFastPath(server, createFastPath(pipeline, maxReceiveBytes));
  // grpc-js does not listen itself, so that both hosts listen and close in the same way.
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

function channelOptions(options: GrpcHostOptions, maxReceiveBytes: number): ServerOptions {
  return {
    "grpc.max_receive_message_length": maxReceiveBytes,
    "grpc.max_concurrent_streams": options.maxConcurrentStreams ?? 1024,
    "grpc-node.max_session_memory": options.maxSessionMemoryMb ?? 64,
    "grpc.keepalive_time_ms": options.keepaliveTimeMs ?? 30_000,
    "grpc.keepalive_timeout_ms": options.keepaliveTimeoutMs ?? 10_000,
    // Its statistics cost time on every call, and nothing reads them.
    "grpc.enable_channelz": 0,
    ...(options.maxConnectionAgeMs === undefined
      ? {}
      : {
          "grpc.max_connection_age_ms": options.maxConnectionAgeMs,
          "grpc.max_connection_age_grace_ms": options.maxConnectionAgeGraceMs ?? 30_000,
        }),
  };
}

function serverCredentials(tls: TlsOptions | undefined): ServerCredentials {
  if (tls === undefined) return ServerCredentials.createInsecure();
  const keyPairs = [{ private_key: tls.key, cert_chain: tls.cert }];
  return ServerCredentials.createSsl(tls.clientCa ?? null, keyPairs, tls.clientCa !== undefined);
}
