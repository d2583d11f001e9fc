// gRPC, gRPC-Web, Connect and JSON on connect: HTTP/2 and HTTP/1.1 on one port, and the pages for operators.

import { createServer as createHttp1Server } from "node:http";
import { createSecureServer, createServer as createHttp2Server } from "node:http2";
import { createServer, type Socket } from "node:net";
import type { Logger } from "pino";
import type { Host } from "../grpc/grpc_host.ts";
import { createHttpListener, type HttpRequest, type HttpResponse, type Pages } from "./request_listener.ts";
import type { ListenAddress } from "../../lib/listen_address.ts";
import { listen } from "../listener.ts";
import type { Pipeline } from "../../rpc/pipeline.ts";
import type { Readiness } from "../../ops/readiness.ts";
import type { TlsOptions } from "../tls.ts";

export type HttpHostOptions = {
  pipeline: Pipeline;
  readiness: Readiness;
  logger: Logger;
  address: ListenAddress;
  tls?: TlsOptions | undefined;
  /** The most bytes of a request message. Default 256 KiB. */
  maxReceiveBytes?: number;
  /** Per connection. Default 1,024. */
  maxConcurrentStreams?: number;
  /** Further pages by their path, for example /metrics. */
  pages?: Pages;
};

/** How long a new connection may take to say what it wants. */
const GREETING_TIMEOUT_MS = 10_000;
const HTTP1_OPTIONS = {
  maxHeaderSize: 16 * 1024,
  headersTimeout: 10_000,
  requestTimeout: 30_000,
  keepAliveTimeout: 60_000,
  connectionsCheckingInterval: 5_000,
};

export async function startHttpHost(options: HttpHostOptions): Promise<Host> {
  const { pipeline, readiness, logger, tls, maxReceiveBytes = 256 * 1024, pages = {} } = options;
  const answer = createHttpListener({ pipeline, readiness, logger, maxReceiveBytes, pages });
  const protocols = createProtocols(answer, tls, options.maxConcurrentStreams ?? 1024);
  const listener = await listen(createServer({ noDelay: true }, protocols.accept), options.address);

  return {
    address: listener.address,
    async drain(graceMs) {
      pipeline.endStreams();
      const closed = listener.closed();
      protocols.close();
      const force = setTimeout(listener.destroyAll, graceMs);
      await closed;
      clearTimeout(force);
    },
  };
}

type RequestListener = (request: HttpRequest, response: HttpResponse) => void;

type Protocols = {
  accept(socket: Socket): void;
  /** Tells every connection to go once it has its answers. */
  close(): void;
};

function createProtocols(
  answer: RequestListener,
  tls: TlsOptions | undefined,
  maxConcurrentStreams: number,
): Protocols {
  const greeting = new Set<Socket>();
  let closing = false;

  function answerOrLast(request: HttpRequest, response: HttpResponse): void {
    if (request.httpVersionMajor === 1) {
      if (closing) lastOfConnection(response);
      open.add(response);
      response.once("close", () => {
        open.delete(response);
        // Not at once: the connection counts as idle only after this event.
        if (closing) setImmediate(() => http1.closeIdleConnections());
      });
    }
    answer(request, response);
  }
  const open = new Set<HttpResponse>();

  const http2Options = { settings: { maxConcurrentStreams, maxHeaderListSize: 16 * 1024 }, maxSessionMemory: 64 };
  const plain1 = createHttp1Server(HTTP1_OPTIONS, answerOrLast);
  const http2 =
    tls === undefined
      ? createHttp2Server(http2Options, answerOrLast)
      : createSecureServer(
          {
            ...http2Options,
            ...HTTP1_OPTIONS,
            allowHTTP1: true,
            cert: tls.cert,
            key: tls.key,
            handshakeTimeout: GREETING_TIMEOUT_MS,
            ...(tls.clientCa === undefined ? {} : { ca: tls.clientCa, requestCert: true, rejectUnauthorized: true }),
          },
          answerOrLast,
        );
  // With TLS both versions live in one server, for the handshake decides between them.
  const http1 = (tls === undefined ? plain1 : http2) as typeof plain1;
  // These servers never listen themselves; it is this event that starts their watch over slow connections.
  http1.emit("listening");
  // One whose handshake was under way when the others were closed.
  http2.on("session", (session) => closing && session.close());

  return {
    accept(socket) {
      if (tls !== undefined) {
        http2.emit("connection", socket);
        return;
      }
      greeting.add(socket);
      socket.once("close", () => greeting.delete(socket));
      peek(socket, (isHttp2) => {
        greeting.delete(socket);
        (isHttp2 ? http2 : http1).emit("connection", socket);
      });
    },
    close() {
      closing = true;
      for (const response of open) lastOfConnection(response);
      for (const socket of greeting) socket.destroy();
      // These close what is idle, and tell HTTP/2 connections to go (GOAWAY) once their streams are done.
      http1.close();
      http2.close();
    },
  };
}

function lastOfConnection(response: HttpResponse): void {
  if (!response.headersSent) response.setHeader("connection", "close");
}

/** Waits for as much as tells HTTP/2, which begins with "PRI", from HTTP/1.1, in which no method does; takes nothing. */
function peek(socket: Socket, onKnown: (isHttp2: boolean) => void): void {
  const chunks: Buffer[] = [];
  const onTimeout = () => socket.destroy();
  const onReadable = () => {
    for (let chunk = socket.read() as Buffer | null; chunk !== null; chunk = socket.read() as Buffer | null) {
      chunks.push(chunk);
    }
    const greeting = Buffer.concat(chunks);
    if (greeting.length < 3) return;
    socket.off("readable", onReadable);
    socket.off("timeout", onTimeout);
    socket.off("end", onEnd);
    socket.setTimeout(0);
    socket.unshift(greeting);
    onKnown(greeting.subarray(0, 3).toString("latin1") === "PRI");
  };
  const onEnd = () => socket.destroy();
  socket.setTimeout(GREETING_TIMEOUT_MS, onTimeout);
  socket.on("readable", onReadable);
  socket.on("end", onEnd);
}
