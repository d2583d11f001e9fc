// Starts the listeners that are configured.

import { readFileSync } from "node:fs";
import type { Logger } from "pino";
import { listenAddressText, type ListenAddress } from "../lib/listen_address.ts";
import type { Pages } from "../ops/pages.ts";
import type { Pipeline } from "../rpc/pipeline.ts";
import type { ConnectionLimits } from "./connections.ts";
import { startGrpcHost } from "./grpc/grpc_host.ts";
import type { Host } from "./host.ts";
import { startHttpHost } from "./http/http_host.ts";

type ListenerOptions = {
  readonly pipeline: Pipeline;
  readonly logger: Logger;
  /** Undefined: off. */
  readonly grpcListen: ListenAddress | undefined;
  readonly httpListen: ListenAddress | undefined;
  /** Paths of PEM files. */
  readonly tls:
    | { readonly certFile: string; readonly keyFile: string; readonly clientCaFile: string | undefined }
    | undefined;
  readonly connectionLimits: ConnectionLimits;
  readonly maxConnectionAgeMs: number | undefined;
  readonly maxConnectionAgeGraceMs: number;
  readonly corsOrigins: readonly string[];
  readonly pages: Pages;
  /** Is called with each listener that has started. */
  readonly onStarted: (host: Host) => void;
};

/** Returns the addresses of the listeners, with the ports that were bound. */
export async function startListeners(options: ListenerOptions): Promise<{ grpc?: string; http?: string }> {
  const { grpcListen, httpListen, onStarted } = options;
  const shared = { ...options, tls: readTls(options.tls) };
  const addresses: { grpc?: string; http?: string } = {};
  if (grpcListen) {
    const host = await startGrpcHost({ ...shared, address: grpcListen });
    onStarted(host);
    addresses.grpc = listenAddressText(host.address);
  }
  if (httpListen) {
    const host = await startHttpHost({ ...shared, address: httpListen });
    onStarted(host);
    addresses.http = listenAddressText(host.address);
  }
  return addresses;
}

function readTls(files: ListenerOptions["tls"]) {
  if (files === undefined) return undefined;
  const { certFile, keyFile, clientCaFile } = files;
  const clientCa = clientCaFile === undefined ? undefined : readFileSync(clientCaFile);
  return { cert: readFileSync(certFile), key: readFileSync(keyFile), clientCa };
}
