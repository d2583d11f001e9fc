// The gRPC host: grpc-js, and the fast path for the methods that are called most.

import { Server, ServerCredentials, type ServerOptions } from "@grpc/grpc-js";
import type { ListenAddress } from "../../lib/listen_address.ts";
import type { Pipeline } from "../../rpc/pipeline.ts";
import {
  MAX_CONCURRENT_STREAMS,
  MAX_RECEIVE_BYTES,
  MAX_SESSION_MEMORY_MB,
  startHost,
  type Host,
  type TlsOptions,
} from "../host.ts";
import { limitConnections, streamResetOptions, type ConnectionLimits } from "../connections.ts";
import { registerRoute } from "./grpc_calls.ts";
import { http2ServersOf, installFastPath, setHttp2Options } from "./stream_dispatch.ts";

export type GrpcHostOptions = {
  pipeline: Pipeline;
  address: ListenAddress;
  tls?: TlsOptions | undefined;
  /** The age, give or take 10%, at which a connection is asked to reconnect, so that load spreads. Default: never. */
  maxConnectionAgeMs?: number | undefined;
  /** How long after that open calls are cut off; a stream would keep its connection for ever. Default 30,000. */
  maxConnectionAgeGraceMs?: number;
  connectionLimits?: ConnectionLimits;
};

export async function startGrpcHost(options: GrpcHostOptions): Promise<Host> {
  const { pipeline, tls, connectionLimits = {} } = options;
  const server = new Server(channelOptions(options));
  setHttp2Options(server, streamResetOptions(connectionLimits));
  for (const route of pipeline.routes) registerRoute(server, pipeline, route);
  const injector = server.createConnectionInjector(serverCredentials(tls));
  installFastPath(server, pipeline);
  for (const http2Server of http2ServersOf(server)) limitConnections(http2Server, connectionLimits);
  return startHost(options.address, pipeline, {
    accept: (socket) => injector.injectConnection(socket),
    close: () => server.tryShutdown(() => undefined),
    forceClose: () => server.forceShutdown(),
  });
}

function channelOptions({ maxConnectionAgeMs, maxConnectionAgeGraceMs = 30_000 }: GrpcHostOptions): ServerOptions {
  return {
    "grpc.max_receive_message_length": MAX_RECEIVE_BYTES,
    "grpc.max_concurrent_streams": MAX_CONCURRENT_STREAMS,
    "grpc-node.max_session_memory": MAX_SESSION_MEMORY_MB,
    // Its statistics cost time on every call, and nothing reads them.
    "grpc.enable_channelz": 0,
    ...(maxConnectionAgeMs !== undefined && {
      "grpc.max_connection_age_ms": maxConnectionAgeMs,
      "grpc.max_connection_age_grace_ms": maxConnectionAgeGraceMs,
    }),
  };
}

function serverCredentials(tls: TlsOptions | undefined): ServerCredentials {
  if (tls === undefined) return ServerCredentials.createInsecure();
  const keyPairs = [{ private_key: tls.key, cert_chain: tls.cert }];
  return ServerCredentials.createSsl(tls.clientCa ?? null, keyPairs, tls.clientCa !== undefined);
}
