// The HTTP host: gRPC, gRPC-Web, Connect and JSON by connect, and the pages for operators, on one port.

import type { Logger } from "pino";
import type { ListenAddress } from "../../lib/listen_address.ts";
import type { Pages } from "../../ops/pages.ts";
import type { Pipeline } from "../../rpc/pipeline.ts";
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
};

export async function startHttpHost(options: HttpHostOptions): Promise<Host> {
  const { pipeline, logger, tls, pages = {} } = options;
  const servers = new ProtocolServers(createRequestListener(pipeline, logger, pages), tls);
  return startHost(options.address, pipeline, servers);
}
