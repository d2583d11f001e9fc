// CORS: lets scripts of the configured origins call the methods from a browser.

import { cors } from "@connectrpc/connect";
import type { HttpRequest, HttpResponse } from "./http_messages.ts";

const ALLOWED_HEADERS = [...cors.allowedHeaders, "Authorization"].join(", ");
const EXPOSED_HEADERS = cors.exposedHeaders.join(", ");
/** How long a browser may keep the response to a preflight request; none keeps it longer than two hours. */
const MAX_AGE_S = 7_200;

export type Cors = {
  /** Adds the headers that let a script of the request's origin read the response, if that origin is allowed. */
  addHeaders(request: HttpRequest, response: HttpResponse): void;
};

/** `origins` are those of pages, for example `https://app.example.com`; `*` stands for all of them. */
export function createCors(origins: readonly string[]): Cors {
  const allowsAll = origins.includes("*");
  return {
    addHeaders(request, response) {
      if (origins.length === 0) return;
      const { origin } = request.headers;
      if (!allowsAll) response.setHeader("vary", "Origin");
      if (origin === undefined || !(allowsAll || origins.includes(origin))) return;
      response.setHeader("access-control-allow-origin", allowsAll ? "*" : origin);
      if (request.method === "OPTIONS" && "access-control-request-method" in request.headers) {
        response.setHeader("access-control-allow-methods", cors.allowedMethods.join(", "));
        response.setHeader("access-control-allow-headers", ALLOWED_HEADERS);
        response.setHeader("access-control-max-age", String(MAX_AGE_S));
      } else {
        response.setHeader("access-control-expose-headers", EXPOSED_HEADERS);
      }
    },
  };
}
