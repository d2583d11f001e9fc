// `healthcheck`: checks whether the service that runs with this configuration is ready.
//
// It connects as any caller would. It uses only Node's own clients, so that it starts quickly.

import { readFileSync } from "node:fs";
import { connect as connectHttp2, type ClientHttp2Session } from "node:http2";
import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { connect as connectTcp } from "node:net";
import { connect as connectTls, type ConnectionOptions } from "node:tls";
import type { Config, TlsFiles } from "../config/config.ts";
import { listenAddressText, type ListenAddress } from "../lib/listen_address.ts";

export type Health = { readonly ready: boolean; readonly text: string };

const TIMEOUT_MS = 2_500;

/** Requests /readyz, or calls gRPC's health service if HTTP is off. Never throws. */
export async function checkHealth(config: Config): Promise<Health> {
  const { httpListen, grpcListen, tls } = config;
  const address = httpListen ?? grpcListen!;
  const where = `${httpListen ? "HTTP" : "gRPC"} on ${listenAddressText(address)}`;
  if (address.kind === "tcp" && address.port === 0) {
    return { ready: false, text: `${where}: the service chooses this port at its start, so it is unknown here` };
  }
  try {
    const health = await (httpListen ? requestReadyz(address, tls) : callGrpcHealth(address, tls));
    return { ready: health.ready, text: `${where}: ${health.text}` };
  } catch (error) {
    return { ready: false, text: `${where}: ${reasonOf(error)}` };
  }
}

function requestReadyz(address: ListenAddress, tls: TlsFiles | undefined): Promise<Health> {
  return new Promise((resolve, reject) => {
    const send = tls ? requestHttps : requestHttp;
    const options = {
      ...socketOptions(address),
      ...(tls && tlsOptions(tls)),
      path: "/readyz",
      agent: false as const,
      signal: AbortSignal.timeout(TIMEOUT_MS),
    };
    const request = send(options, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (chunk: string) => (body += chunk));
      response.on("end", () => {
        const { statusCode = 0 } = response;
        resolve({ ready: statusCode === 200, text: `${statusCode} ${body.trim().slice(0, 200)}`.trim() });
      });
      response.on("error", reject);
    });
    request.on("error", reject).end();
  });
}

/** Calls grpc.health.v1.Health/Check for the whole server. */
async function callGrpcHealth(address: ListenAddress, tls: TlsFiles | undefined): Promise<Health> {
  const socket = tls
    ? connectTls({ ...socketOptions(address), ...tlsOptions(tls), ALPNProtocols: ["h2"] })
    : connectTcp(socketOptions(address));
  const session = connectHttp2(`http${tls ? "s" : ""}://localhost`, { createConnection: () => socket });
  try {
    return await callCheck(session);
  } finally {
    session.destroy();
  }
}

/** Sends an empty request. In the response, field 1 has the value 1 for SERVING. */
function callCheck(session: ClientHttp2Session): Promise<Health> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("no response in time")), TIMEOUT_MS);
    const settle = (health: Health): void => {
      clearTimeout(timer);
      resolve(health);
    };
    const fail = (error: Error): void => {
      clearTimeout(timer);
      reject(error);
    };
    session.on("error", fail);
    const stream = session.request({
      ":method": "POST",
      ":path": "/grpc.health.v1.Health/Check",
      "content-type": "application/grpc",
      te: "trailers",
    });
    let status: unknown;
    const chunks: Buffer[] = [];
    // A response without a message has its status in the headers.
    stream.on("response", (headers) => (status ??= headers["grpc-status"]));
    stream.on("trailers", (trailers) => (status ??= trailers["grpc-status"]));
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("error", fail);
    stream.on("end", () => {
      const message = Buffer.concat(chunks).subarray(5);
      if (status !== "0") settle({ ready: false, text: `gRPC status ${String(status ?? "unknown")}` });
      else if (message.equals(Buffer.from([0x08, 0x01]))) settle({ ready: true, text: "SERVING" });
      else settle({ ready: false, text: "NOT_SERVING" });
    });
    stream.end(Buffer.alloc(5));
  });
}

/** Returns how to connect to a listener from its own machine. */
function socketOptions(address: ListenAddress): { path: string } | { host: string; port: number } {
  // connect() takes the path as `path`, and request() as `socketPath`.
  if (address.kind === "unix") return { path: address.path, socketPath: address.path } as { path: string };
  const everywhere: Record<string, string> = { "0.0.0.0": "127.0.0.1", "::": "::1" };
  return { host: everywhere[address.host] ?? address.host, port: address.port };
}

function tlsOptions({ certFile, keyFile }: TlsFiles): ConnectionOptions {
  return {
    // The listener is on this machine, whatever name its certificate is for.
    rejectUnauthorized: false,
    // If callers must present a certificate, the service's own is used.
    cert: readFileSync(certFile),
    key: readFileSync(keyFile),
  };
}

function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  if (!(error instanceof Error)) return String(error);
  if (error.name === "TimeoutError" || error.name === "AbortError") return "no response in time";
  return error.message;
}
