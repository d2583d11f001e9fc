// The HTTP host: gRPC, gRPC-Web, Connect and JSON by connect, and the pages for operators, on one port.

import type { Logger } from "pino";
import type { ListenAddress } from "../../lib/listen_address.ts";
import type { Pages } from "../../ops/pages.ts";
import type { Pipeline } from "../../rpc/pipeline.ts";
import type { ConnectionLimits } from "../connections.ts";
import { startHost, type Host, type TlsOptions } from "../host.ts";
import { ProtocolServers } from "./protocol_servers.ts";
import { createRequestListener } from "./request_listener.ts";

export type HttpHostOptions = {
  pipeline: Pipeline;
  logger: Logger;
  address: ListenAddress;
  tls?: TlsOptions | undefined;
  /** Pages beside /healthz by their path, for example /metrics. */
  pages?: Pages;
  /** The origins of the pages whose scripts may call; `*` for all. Default: none. */
  corsOrigins?: readonly string[];
  connectionLimits?: ConnectionLimits;
};

export async function startHttpHost(options: HttpHostOptions): Promise<Host> {
  const { pipeline, tls, connectionLimits = {} } = options;
  const servers = new ProtocolServers(createRequestListener(options), connectionLimits, tls);
  return startHost(options.address, pipeline, servers);
}
