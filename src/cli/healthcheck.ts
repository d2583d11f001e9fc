// `healthcheck`: checks whether the service that runs with this configuration is ready, by a connection as any caller's.

import { once } from "node:events";
import { readFileSync } from "node:fs";
import { request as requestHttp, type IncomingMessage } from "node:http";
import { request as requestHttps } from "node:https";
import { connect as connectTcp } from "node:net";
import { text } from "node:stream/consumers";
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

async function requestReadyz(address: ListenAddress, tls: TlsFiles | undefined): Promise<Health> {
  const request = (tls ? requestHttps : requestHttp)({
    ...socketOptions(address),
    ...(tls && tlsOptions(tls)),
    path: "/readyz",
    agent: false,
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  // once() rejects for an error before the response, and text() for one after it.
  request.on("error", () => undefined).end();
  const [response] = (await once(request, "response")) as [IncomingMessage];
  const body = await text(response);
  return { ready: response.statusCode === 200, text: `${response.statusCode} ${body.trim().slice(0, 200)}`.trim() };
}

/** Calls grpc.health.v1.Health/Check for the whole server. */
async function callGrpcHealth(address: ListenAddress, tls: TlsFiles | undefined): Promise<Health> {
  // Loaded only if they are needed, so that the check over HTTP starts quickly.
  const { createClient } = await import("@connectrpc/connect");
  const { createGrpcTransport } = await import("@connectrpc/connect-node");
  const { Health, HealthCheckResponse_ServingStatus } = await import("../../gen/grpc/health/v1/health_pb.ts");
  const socket = tls
    ? connectTls({ ...socketOptions(address), ...tlsOptions(tls), ALPNProtocols: ["h2"] })
    : connectTcp(socketOptions(address));
  const baseUrl = `http${tls ? "s" : ""}://localhost`;
  const transport = createGrpcTransport({ baseUrl, nodeOptions: { createConnection: () => socket } });
  try {
    const { status } = await createClient(Health, transport).check({}, { timeoutMs: TIMEOUT_MS });
    const ready = status === HealthCheckResponse_ServingStatus.SERVING;
    return { ready, text: ready ? "SERVING" : "NOT_SERVING" };
  } finally {
    socket.destroy();
  }
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
