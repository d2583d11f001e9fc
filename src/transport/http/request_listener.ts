// Routes an HTTP request of version 1.1 or 2 to a method, to a page, or to 404.

import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node";
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";
import type { Logger } from "pino";
import { jsonPage, type Page, type Pages } from "../../ops/pages.ts";
import { startTimeout } from "../../lib/timeout.ts";
import { lateRequest, toConnectError, type CallFailure } from "../../rpc/errors.ts";
import type { Pipeline } from "../../rpc/pipeline.ts";
import { ReceiveMemory } from "../receive_buffer.ts";
import { receiveRequest, type ReceiverOptions } from "../request_receiver.ts";
import { clampTimeoutHeaders } from "../timeout_headers.ts";
import { createConnectHandlers, type MethodHandlers } from "./connect_handlers.ts";
import { mediaTypeOf } from "./content_type.ts";
import { createCors } from "./cors.ts";
import type { HttpRequest, HttpRequestListener, HttpResponse } from "./http_messages.ts";
import { RefusableBody } from "./refusable_body.ts";

const LIVE: Page = { status: 200, contentType: "text/plain; charset=utf-8", body: "ok\n" };
const MEDIA_TYPES = "application/json, application/proto, application/grpc or application/grpc-web";
const UNSUPPORTED_MEDIA_TYPE = jsonPage(415, { code: "unknown", message: `send content-type: ${MEDIA_TYPES}` });
const GRPC_WEB_TEXT = "application/grpc-web-text";
const UNSUPPORTED_GRPC_WEB_TEXT = jsonPage(415, {
  code: "unknown",
  message: `${GRPC_WEB_TEXT} is not supported; let the client send binary messages (application/grpc-web+proto)`,
});
const HTTP2_NEEDED = jsonPage(505, {
  code: "unimplemented",
  message: "this method streams in both directions, which HTTP/1.1 cannot do: call it over HTTP/2",
});
const METHODS_OF_CALLS = ["POST", "OPTIONS"];
const METHODS_OF_PAGES = ["GET", "HEAD", "OPTIONS"];

type HttpRequestListenerOptions = {
  readonly pipeline: Pipeline;
  readonly logger: Logger;
  /** Served beside /healthz. */
  readonly pages?: Pages;
  readonly corsOrigins?: readonly string[];
};

type RequestLimits = { readonly requestTimeoutMs: number; readonly memory: ReceiveMemory };

export function createRequestListener(options: HttpRequestListenerOptions): HttpRequestListener {
  const { pipeline, logger, corsOrigins = [] } = options;
  const methods = createConnectHandlers(pipeline);
  const pages = new Map(Object.entries({ ...options.pages, "/healthz": () => LIVE }));
  const cors = createCors(corsOrigins);
  const notFound = notFoundPage(pipeline);
  const limits = { requestTimeoutMs: pipeline.requestTimeoutMs, memory: new ReceiveMemory() };

  async function respond(request: HttpRequest, response: HttpResponse): Promise<void> {
    const path = (request.url ?? "").split("?", 1)[0]!;
    const handlers = methods.get(path);
    if (handlers !== undefined) {
      cors.addHeaders(request, response);
      if (!isAllowed(request, response, METHODS_OF_CALLS)) return;
      return await runCall(limits, handlers, request, response);
    }
    const page = pages.get(path);
    if (page === undefined) return sendPage(notFound, response);
    if (!isAllowed(request, response, METHODS_OF_PAGES)) return;
    sendPage(await page(), response);
  }

  return (request, response) => {
    // Ignores client disconnects: the call is already cancelled through its AbortSignal.
    response.on("error", () => undefined);
    respond(request, response).catch((error: unknown) => {
      if (response.headersSent || response.destroyed) {
        response.destroy();
        return;
      }
      logger.error({ stack: error instanceof Error ? error.stack : String(error) }, "HTTP request failed");
      sendPage(jsonPage(500, { code: "internal", message: "internal error" }), response);
    });
  };
}

/** Returns true if the request is to be served. Otherwise it has been answered: it is OPTIONS, or its method is not allowed. */
function isAllowed({ method = "" }: HttpRequest, response: HttpResponse, allowed: readonly string[]): boolean {
  if (method === "OPTIONS") {
    send(response, 204, { allow: allowed.join(", ") });
    return false;
  }
  if (allowed.includes(method)) return true;
  const page = jsonPage(405, { code: "unknown", message: `use ${allowed[0]}` });
  sendPage(page, response, { allow: allowed.join(", ") });
  return false;
}

async function runCall(
  { requestTimeoutMs, memory }: RequestLimits,
  { route, grpc, connect }: MethodHandlers,
  request: HttpRequest,
  response: HttpResponse,
): Promise<void> {
  const mediaType = mediaTypeOf(request.headers["content-type"]);
  if (mediaType === undefined) return sendPage(UNSUPPORTED_MEDIA_TYPE, response);
  if (mediaType.startsWith(GRPC_WEB_TEXT)) return sendPage(UNSUPPORTED_GRPC_WEB_TEXT, response);
  const isBidi = route.method.methodKind === "bidi_streaming";
  if (isBidi && request.httpVersionMajor === 1) return sendPage(HTTP2_NEEDED, response);
  request.headers["content-type"] = mediaType;
  // connect makes a URL of it, and fails if it is not the name of a host: of a Unix socket, clients send the path, or nothing.
  request.headers[request.httpVersionMajor === 2 ? ":authority" : "host"] = "localhost";
  const universalRequest = universalRequestFromNodeRequest(request, response as ServerResponse, undefined, undefined);
  clampTimeoutHeaders(universalRequest.header);
  const { methodKind } = route.method;
  const isGrpc = mediaType.startsWith("application/grpc");
  const body = new RefusableBody(universalRequest.body as AsyncIterable<Uint8Array>);
  const options = {
    memory,
    isEnveloped: isGrpc || methodKind !== "unary",
    timeoutMs: methodKind === "bidi_streaming" ? undefined : requestTimeoutMs,
    refuse: (failure: CallFailure) => body.refuse(toConnectError(failure)),
  };
  if ("stream" in request) receiveRequest(request.stream, options);
  else receiveHttp1Request(request, options);
  const universalResponse = await (isGrpc ? grpc : connect)({ ...universalRequest, body });
  if (universalResponse.status === 415) return sendPage(UNSUPPORTED_MEDIA_TYPE, response);
  await universalResponseToNodeResponse(universalResponse, response);
}

/** Limits how long the request of HTTP/1.1 may take to arrive. It has a connection for itself. */
function receiveHttp1Request(request: IncomingMessage, { timeoutMs, refuse }: ReceiverOptions): void {
  if (timeoutMs === undefined) return;
  const timer = startTimeout(performance.now() + timeoutMs, () => refuse(lateRequest()));
  const stop = () => clearTimeout(timer);
  request.once("end", stop).once("close", stop);
}

function sendPage(page: Page, response: HttpResponse, headers: OutgoingHttpHeaders = {}): void {
  const length = Buffer.byteLength(page.body);
  send(response, page.status, { "content-type": page.contentType, "content-length": length, ...headers }, page.body);
}

function send(response: HttpResponse, status: number, headers: OutgoingHttpHeaders, body = ""): void {
  (response as ServerResponse).writeHead(status, headers);
  // Node omits the body if the method is HEAD.
  response.end(body);
}

function notFoundPage(pipeline: Pipeline): Page {
  const services = new Set(pipeline.routes.map((route) => `/${route.method.parent.typeName}/`));
  const message = "no such path; methods are at /<service>/<method>";
  return jsonPage(404, { code: "unimplemented", message, services: [...services] });
}
