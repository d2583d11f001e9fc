// What answers an HTTP request, of version 1.1 or 2: a method, a page, or 404.

import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { Logger } from "pino";
import { createConnectHandlers, type ConnectHandler } from "./connect_handlers.ts";
import type { Pipeline } from "../../rpc/pipeline.ts";
import type { Readiness } from "../../ops/readiness.ts";

export type HttpRequest = IncomingMessage | Http2ServerRequest;
export type HttpResponse = ServerResponse | Http2ServerResponse;

/** What a GET of a plain path answers. */
export type Page = { readonly status: number; readonly contentType: string; readonly body: string };
/** By path; each is made anew for every request. */
export type Pages = Readonly<Record<string, () => Page | Promise<Page>>>;

/** How long a request may take to arrive; connections of HTTP/1.1 have their own clock. */
const BODY_TIMEOUT_MS = 30_000;

export type HttpListenerOptions = {
  pipeline: Pipeline;
  readiness: Readiness;
  logger: Logger;
  maxReceiveBytes: number;
  /** Further pages, for example /metrics. */
  pages: Pages;
};

export function createHttpListener(
  options: HttpListenerOptions,
): (request: HttpRequest, response: HttpResponse) => void {
  const { pipeline, readiness, logger } = options;
  const findHandler = createConnectHandlers(pipeline, options.maxReceiveBytes);
  const pages = new Map(Object.entries({ ...options.pages, "/healthz": alive, "/readyz": () => ready(readiness) }));
  const notFound = notFoundPage(pipeline);

  async function answer(request: HttpRequest, response: HttpResponse): Promise<void> {
    const path = (request.url ?? "").split("?", 1)[0]!;
    const handler = findHandler(path, request.headers["content-type"] ?? "");
    if (handler !== undefined) return answerCall(handler, request, response);
    const isRead = request.method === "GET" || request.method === "HEAD";
    const page = isRead ? await pages.get(path)?.() : undefined;
    answerPage(page ?? notFound, response);
  }

  return (request, response) => {
    // A client that is gone is no news: the call has been told through its signal.
    response.on("error", () => undefined);
    answer(request, response).catch((error: unknown) => {
      if (response.headersSent || response.destroyed) {
        response.destroy();
        return;
      }
      logger.error({ stack: error instanceof Error ? error.stack : String(error) }, "HTTP request failed");
      answerPage(json(500, { code: "internal", message: "internal error" }), response);
    });
  };
}

async function answerCall(handler: ConnectHandler, request: HttpRequest, response: HttpResponse): Promise<void> {
  let universalRequest;
  try {
    universalRequest = universalRequestFromNodeRequest(request, response as ServerResponse, undefined, undefined);
  } catch {
    // No host, or a target that is no URL.
    return answerPage(json(400, { code: "invalid_argument", message: "malformed request" }), response);
  }
  if (request.httpVersionMajor === 2) limitBodyTime(request as Http2ServerRequest);
  const answered = await handler(universalRequest);
  if (answered.status === 415) return answerPage(unsupportedMediaType, response);
  // Not awaited to its end: connect waits for an event that HTTP/1.1 responses do not have.
  await universalResponseToNodeResponse(answered, response);
}

function limitBodyTime(request: Http2ServerRequest): void {
  const timer = setTimeout(() => request.stream.close(), BODY_TIMEOUT_MS);
  timer.unref();
  const arrived = () => clearTimeout(timer);
  request.once("end", arrived).once("close", arrived);
}

function answerPage(page: Page, response: HttpResponse): void {
  const headers = { "content-type": page.contentType, "content-length": Buffer.byteLength(page.body) };
  (response as ServerResponse).writeHead(page.status, headers);
  // Node leaves the body out where the method is HEAD.
  response.end(page.body);
}

function alive(): Page {
  return { status: 200, contentType: "text/plain; charset=utf-8", body: "ok\n" };
}

function ready(readiness: Readiness): Page {
  const reasons = readiness.reasons();
  return json(reasons.length === 0 ? 200 : 503, { ready: reasons.length === 0, reasons });
}

function notFoundPage(pipeline: Pipeline): Page {
  const services = new Set(pipeline.routes.map((route) => `/${route.method.parent.typeName}/`));
  const message = "no such path; methods are at /<service>/<method>";
  return json(404, { code: "unimplemented", message, services: [...services] });
}

const unsupportedMediaType = json(415, {
  code: "unknown",
  message: "send content-type: application/json, application/proto, application/grpc or application/grpc-web",
});

function json(status: number, body: object): Page {
  return { status, contentType: "application/json", body: `${JSON.stringify(body)}\n` };
}
