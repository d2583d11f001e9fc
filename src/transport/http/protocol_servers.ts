// The HTTP/1.1 and HTTP/2 servers behind one port, and the detection of which of them a new connection is for.

import { createServer as createHttp1Server, type Server as Http1Server } from "node:http";
import {
  createSecureServer,
  createServer as createHttp2Server,
  type Http2SecureServer,
  type Http2Server,
} from "node:http2";
import type { Socket } from "node:net";
import { limitConnections, streamResetOptions, type ConnectionLimits } from "../connections.ts";
import { MAX_CONCURRENT_STREAMS, MAX_SESSION_MEMORY_MB, type TlsOptions } from "../host.ts";
import type { HttpRequest, HttpRequestListener, HttpResponse } from "./http_messages.ts";

/** How long a new connection may take until its protocol is known. */
const DETECTION_TIMEOUT_MS = 10_000;
const HTTP1_OPTIONS = {
  maxHeaderSize: 16 * 1024,
  headersTimeout: 10_000,
  requestTimeout: 30_000,
  keepAliveTimeout: 60_000,
  connectionsCheckingInterval: 5_000,
};
const HTTP2_OPTIONS = {
  settings: { maxConcurrentStreams: MAX_CONCURRENT_STREAMS, maxHeaderListSize: 16 * 1024 },
  maxSessionMemory: MAX_SESSION_MEMORY_MB,
};
/** HTTP/2 connections begin with "PRI"; no method of HTTP/1.1 does. */
const HTTP2_PREFACE = Buffer.from("PRI");

/** They never listen: the host accepts connections and passes them on. */
export class ProtocolServers {
  readonly #http1: Http1Server;
  readonly #http2: Http2Server | Http2SecureServer;
  readonly #isTls: boolean;
  readonly #listener: HttpRequestListener;
  /** Connections whose protocol is not known yet. */
  readonly #undetected = new Set<Socket>();
  /** Responses of HTTP/1.1 that have not been sent completely. */
  readonly #openResponses = new Set<HttpResponse>();
  #isClosing = false;

  constructor(listener: HttpRequestListener, limits: ConnectionLimits, tls: TlsOptions | undefined) {
    this.#listener = listener;
    this.#isTls = tls !== undefined;
    const onRequest = (request: HttpRequest, response: HttpResponse) => this.#onRequest(request, response);
    const http2Options = { ...HTTP2_OPTIONS, ...streamResetOptions(limits) };
    if (tls === undefined) {
      this.#http1 = createHttp1Server(HTTP1_OPTIONS, onRequest);
      this.#http2 = createHttp2Server(http2Options, onRequest);
    } else {
      this.#http2 = createSecureServer({ ...http2Options, ...HTTP1_OPTIONS, ...secureOptions(tls) }, onRequest);
      // With TLS, one server has both protocols, since the handshake decides between them.
      this.#http1 = this.#http2 as unknown as Http1Server;
    }
    // The timeouts of HTTP/1.1 are checked from this event on, which a server that does not listen never emits.
    this.#http1.emit("listening");
    // A connection whose handshake ends after close() was called.
    this.#http2.on("session", (session) => this.#isClosing && session.close());
    limitConnections(this.#http2, limits);
  }

  /** Serves a new connection. */
  accept(socket: Socket): void {
    if (this.#isTls) {
      this.#http2.emit("connection", socket);
      return;
    }
    this.#undetected.add(socket);
    socket.once("close", () => this.#undetected.delete(socket));
    detectHttp2(socket, (isHttp2) => {
      this.#undetected.delete(socket);
      (isHttp2 ? this.#http2 : this.#http1).emit("connection", socket);
    });
  }

  /** Closes idle connections, and every other one when its responses have been sent. */
  close(): void {
    this.#isClosing = true;
    for (const response of this.#openResponses) closeConnectionAfter(response);
    for (const socket of this.#undetected) socket.destroy();
    // HTTP/2 connections get a GOAWAY and close when their streams have ended.
    this.#http1.close();
    this.#http2.close();
  }

  #onRequest(request: HttpRequest, response: HttpResponse): void {
    if (request.httpVersionMajor === 1) {
      if (this.#isClosing) closeConnectionAfter(response);
      this.#openResponses.add(response);
      response.once("close", () => {
        this.#openResponses.delete(response);
        // Deferred, since the connection counts as idle only after this event.
        if (this.#isClosing) setImmediate(() => this.#http1.closeIdleConnections());
      });
    }
    this.#listener(request, response);
  }
}

function secureOptions({ cert, key, clientCa }: TlsOptions) {
  const verifyClient = clientCa === undefined ? {} : { ca: clientCa, requestCert: true, rejectUnauthorized: true };
  return { allowHTTP1: true, cert, key, handshakeTimeout: DETECTION_TIMEOUT_MS, ...verifyClient };
}

function closeConnectionAfter(response: HttpResponse): void {
  if (!response.headersSent) response.setHeader("connection", "close");
}

/** Waits for the first bytes of a connection, and puts them back before it calls `onDetected`. */
function detectHttp2(socket: Socket, onDetected: (isHttp2: boolean) => void): void {
  const destroy = () => socket.destroy();
  const onReadable = () => {
    // Returns null until so many bytes have arrived, and fewer if the connection ends before that.
    const start = socket.read(HTTP2_PREFACE.length) as Buffer | null;
    if (start?.length !== HTTP2_PREFACE.length) return;
    socket.off("readable", onReadable);
    socket.off("timeout", destroy);
    socket.off("end", destroy);
    socket.setTimeout(0);
    socket.unshift(start);
    onDetected(start.equals(HTTP2_PREFACE));
  };
  socket.setTimeout(DETECTION_TIMEOUT_MS, destroy);
  socket.on("readable", onReadable);
  socket.on("end", destroy);
}
