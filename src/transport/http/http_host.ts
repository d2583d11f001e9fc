// The HTTP host: gRPC, gRPC-Web, Connect and JSON by connect, and the pages for operators, on one port.

import { createServer } from "node:net";
import type { Logger } from "pino";
import type { ListenAddress } from "../../lib/listen_address.ts";
import type { Pages } from "../../ops/pages.ts";
import type { Pipeline } from "../../rpc/pipeline.ts";
import type { Host } from "../host.ts";
import { listen } from "../listener.ts";
import type { TlsOptions } from "../tls.ts";
import { ProtocolServers } from "./protocol_servers.ts";
import { createRequestListener } from "./request_listener.ts";

export type HttpHostOptions = {
  pipeline: Pipeline;
  logger: Logger;
  address: ListenAddress;
  tls?: TlsOptions | undefined;
  /** The maximum size of a request message. Default 256 KiB. */
  maxReceiveBytes?: number;
  /** Per connection. Default 1,024. */
  maxConcurrentStreams?: number;
  /** Pages beside /healthz by their path, for example /metrics. */
  pages?: Pages;
};

export async function startHttpHost(options: HttpHostOptions): Promise<Host> {
  const { pipeline, logger, tls, maxReceiveBytes = 256 * 1024, pages = {} } = options;
  const onRequest = createRequestListener({ pipeline, logger, maxReceiveBytes, pages });
  const servers = new ProtocolServers(onRequest, tls, options.maxConcurrentStreams ?? 1024);
  const acceptor = createServer({ noDelay: true }, (socket) => servers.accept(socket));
  const listener = await listen(acceptor, options.address);

  return {
    address: listener.address,
    async drain(graceMs) {
      pipeline.endStreams();
      const closed = listener.closed();
      servers.close();
      const force = setTimeout(listener.destroyAll, graceMs);
      await closed;
      clearTimeout(force);
    },
  };
}
