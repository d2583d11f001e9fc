// Routes an HTTP request of version 1.1 or 2 to a method, to a page, or to 404.

import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node";
import type { UniversalHandlerFn } from "@connectrpc/connect/protocol";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { Logger } from "pino";
import { jsonPage, type Page, type Pages } from "../../ops/pages.ts";
import type { Pipeline } from "../../rpc/pipeline.ts";
import { clampTimeoutHeaders } from "../timeout_headers.ts";
import { createConnectHandlers } from "./connect_handlers.ts";

export type HttpRequest = IncomingMessage | Http2ServerRequest;
export type HttpResponse = ServerResponse | Http2ServerResponse;

const LIVE: Page = { status: 200, contentType: "text/plain; charset=utf-8", body: "ok\n" };
const UNSUPPORTED_MEDIA_TYPE = jsonPage(415, {
  code: "unknown",
  message: "send content-type: application/json, application/proto, application/grpc or application/grpc-web",
});
/** How long the body of an HTTP/2 request may take to arrive. Node's HTTP/1.1 server has its own timeout. */
const BODY_TIMEOUT_MS = 30_000;

export type HttpRequestListener = (request: HttpRequest, response: HttpResponse) => void;

/** `furtherPages` are served beside /healthz. */
export function createRequestListener(pipeline: Pipeline, logger: Logger, furtherPages: Pages): HttpRequestListener {
  const findHandler = createConnectHandlers(pipeline);
  const pages = new Map(Object.entries({ ...furtherPages, "/healthz": () => LIVE }));
  const notFound = notFoundPage(pipeline);

  async function respond(request: HttpRequest, response: HttpResponse): Promise<void> {
    const path = (request.url ?? "").split("?", 1)[0]!;
    const handler = findHandler(path, request.headers["content-type"] ?? "");
    if (handler !== undefined) return runCall(handler, request, response);
    const isRead = request.method === "GET" || request.method === "HEAD";
    const page = isRead ? await pages.get(path)?.() : undefined;
    sendPage(page ?? notFound, response);
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

async function runCall(handler: UniversalHandlerFn, request: HttpRequest, response: HttpResponse): Promise<void> {
  let universalRequest;
  try {
    universalRequest = universalRequestFromNodeRequest(request, response as ServerResponse, undefined, undefined);
  } catch {
    // The request has no host, or its target is not a URL.
    return sendPage(jsonPage(400, { code: "invalid_argument", message: "malformed request" }), response);
  }
  clampTimeoutHeaders(universalRequest.header);
  if (request.httpVersionMajor === 2) limitBodyTime(request as Http2ServerRequest);
  const universalResponse = await handler(universalRequest);
  if (universalResponse.status === 415) return sendPage(UNSUPPORTED_MEDIA_TYPE, response);
  await universalResponseToNodeResponse(universalResponse, response);
}

function limitBodyTime(request: Http2ServerRequest): void {
  const timer = setTimeout(() => request.stream.close(), BODY_TIMEOUT_MS);
  timer.unref();
  const stop = () => clearTimeout(timer);
  request.once("end", stop).once("close", stop);
}

function sendPage(page: Page, response: HttpResponse): void {
  const headers = { "content-type": page.contentType, "content-length": Buffer.byteLength(page.body) };
  (response as ServerResponse).writeHead(page.status, headers);
  // Node omits the body if the method is HEAD.
  response.end(page.body);
}

function notFoundPage(pipeline: Pipeline): Page {
  const services = new Set(pipeline.routes.map((route) => `/${route.method.parent.typeName}/`));
  const message = "no such path; methods are at /<service>/<method>";
  return jsonPage(404, { code: "unimplemented", message, services: [...services] });
}
