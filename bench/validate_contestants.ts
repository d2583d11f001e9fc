// The contestants of `npm run bench` except the peers: the service in all its forms, and the floors of its stack.

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  BatchValidateRequestSchema,
  ValidateResultSchema,
  ValidateStreamResponseSchema,
} from "../gen/session/v1/bulk_validation_pb.ts";
import { SessionService } from "../gen/session/v1/session_service_pb.ts";
import { ValidateTokenRequestSchema } from "../gen/session/v1/secure_sessions_pb.ts";
import { createAuthorityClient } from "../test/helpers/grpc_client.ts";
import { grpcFrame } from "../test/helpers/raw_stream.ts";
import type { RedisServer } from "../test/helpers/redis_server.ts";
import { startMeasured, startServerProcess, type ServerProcess } from "../test/helpers/server_process.ts";
import { h2load, type LoadResult } from "./h2load.ts";
import { typicalLogin } from "./typical_session.ts";
import { loadValidateStream } from "./validate_stream_load.ts";

export type Contestant = {
  readonly name: string;
  readonly kind: "ours" | "floor" | "peer";
  /** The processes whose CPU time counts as the server's. */
  readonly pids: readonly number[];
  /** How many validations one run() makes. */
  readonly validations: number;
  run(): Promise<LoadResult>;
};

/** There are 64 requests in flight: on 8 connections with 8 streams each, or on 64 connections of HTTP/1.1. */
export const CONNECTIONS = 8;
export const STREAMS = 8;
const BATCH = 100;
const SESSIONS = 200;
const GRPC_HEADERS = { "content-type": "application/grpc", te: "trailers" };

const VALIDATE_TOKEN = `${SessionService.typeName}/${SessionService.method.validateToken.name}`;
const BATCH_VALIDATE = `${SessionService.typeName}/${SessionService.method.batchValidate.name}`;

export type Ours = {
  readonly tokens: readonly string[];
  readonly sessionIds: readonly string[];
  /** The response to ValidateToken for the first token. */
  readonly response: Buffer;
};

/** Starts the service and creates secure sessions. */
export async function startOurs(redis: RedisServer): Promise<Ours & { server: ServerProcess; http: string }> {
  const server = await startServerProcess(redis, { SA_HTTP_LISTEN: "127.0.0.1:0" });
  const client = createAuthorityClient(server.address);
  const created = await Promise.all(
    Array.from({ length: SESSIONS }, (_, i) => client.createSecureSession({ userId: `user-${i}`, ...typicalLogin() })),
  );
  const tokens = created.map(({ token }) => token);
  const request = toBinary(ValidateTokenRequestSchema, create(ValidateTokenRequestSchema, { token: tokens[0]! }));
  const response = await client.raw("validateToken", request);
  client.close();
  const sessionIds = created.map(({ session }) => session!.sessionId);
  return { server, http: (await server.ask("http")) as string, tokens, sessionIds, response };
}

export function ourContestants(ours: Awaited<ReturnType<typeof startOurs>>, requests: number): Contestant[] {
  const { server, http, tokens } = ours;
  const shared = { kind: "ours" as const, pids: [server.pid] };
  const entries = tokens.slice(0, BATCH).map((value) => ({ handle: { case: "token" as const, value } }));
  const batch = create(BatchValidateRequestSchema, { entries });
  let round = 0;
  const nextToken = () => tokens[round++ % tokens.length]!;
  return [
    {
      ...shared,
      name: "ValidateToken, gRPC",
      validations: requests,
      run: () => grpcLoad(server.address, requests, nextToken()),
    },
    {
      ...shared,
      name: "ValidateToken, JSON over HTTP/1.1",
      validations: requests / 4,
      run: () =>
        h2load({
          url: `http://${http}/${VALIDATE_TOKEN}`,
          requests: requests / 4,
          connections: CONNECTIONS * STREAMS,
          streams: 1,
          http1: true,
          headers: { "content-type": "application/json" },
          body: Buffer.from(JSON.stringify({ token: nextToken() })),
        }),
    },
    {
      ...shared,
      name: "ValidateStream, one a message",
      validations: requests,
      run: () => streamLoad(server.address, tokens, requests),
    },
    {
      ...shared,
      name: `BatchValidate of ${BATCH}`,
      validations: requests * 2,
      // The latencies are those of whole batches.
      run: () =>
        h2load({
          url: `http://${server.address}/${BATCH_VALIDATE}`,
          requests: (requests * 2) / BATCH,
          connections: CONNECTIONS,
          streams: 1,
          headers: GRPC_HEADERS,
          body: grpcFrame(toBinary(BatchValidateRequestSchema, batch)),
        }),
    },
  ];
}

/** Calls ValidateStream with one validation in each message. */
function streamLoad(address: string, tokens: readonly string[], validations: number): Promise<LoadResult> {
  return loadValidateStream({ address, tokens, validations, connections: CONNECTIONS, inFlight: STREAMS });
}

/** A cached client in its own process, which counts as the server, since a hit reaches no other process. */
export async function startCachedClient(
  { server, tokens }: Ours & { server: ServerProcess },
  hits: number,
): Promise<Contestant> {
  const module = new URL("cached_client.ts", import.meta.url).pathname;
  const client = await startMeasured(module, [server.address, ...tokens]);
  return {
    name: "cached client, a hit",
    kind: "ours",
    pids: [client.pid],
    validations: hits,
    async run() {
      const startedMs = performance.now();
      const found = Number(await client.ask(String(hits)));
      // Now and then the client sends a hit to the service, to slide the session's idle timeout.
      if (found < hits * 0.99) throw new Error(`only ${found} of ${hits} look-ups were hits`);
      return { seconds: (performance.now() - startedMs) / 1000, latenciesMs: [] };
    },
  };
}

/** Calls ValidateToken by gRPC, of the service or of another server in its place. */
export function grpcLoad(address: string, requests: number, token: string): Promise<LoadResult> {
  return h2load({
    url: `http://${address}/${VALIDATE_TOKEN}`,
    requests,
    connections: CONNECTIONS,
    streams: STREAMS,
    headers: GRPC_HEADERS,
    body: grpcFrame(toBinary(ValidateTokenRequestSchema, create(ValidateTokenRequestSchema, { token }))),
  });
}

/** Starts the floors. They send the same response as the service and read the same key. */
export async function startFloors(
  redis: RedisServer,
  ours: Ours,
  key: string,
  requests: number,
): Promise<Contestant[]> {
  const module = new URL("validate_floors.ts", import.meta.url).pathname;
  const start = (kind: string, response: Uint8Array = ours.response) =>
    startMeasured(module, [kind, Buffer.from(response).toString("base64"), String(redis.port), key]);
  const grpc = async (name: string, kind: string): Promise<Contestant> => {
    const { pid, address } = await start(kind);
    const run = () => grpcLoad(address, requests, ours.tokens[0]!);
    return { name, kind: "floor", pids: [pid], validations: requests, run };
  };
  const get = await start("get");
  const results = [fromBinary(ValidateResultSchema, ours.response)];
  const message = toBinary(ValidateStreamResponseSchema, create(ValidateStreamResponseSchema, { results }));
  const stream = await start("stream", message);
  return [
    await grpc("bare grpc-js + one tuned GET", "echo-get"),
    await grpc("bare grpc-js, a ready Buffer", "echo"),
    await grpc("bare node:http2, a ready Buffer", "http2"),
    {
      name: "bare grpc-js stream, no GET",
      kind: "floor",
      pids: [stream.pid],
      validations: requests,
      run: () => streamLoad(stream.address, ours.tokens, requests),
    },
    {
      name: "one tuned GET of node-redis",
      kind: "floor",
      pids: [get.pid],
      validations: requests,
      async run() {
        const startedMs = performance.now();
        await get.ask(String(requests));
        return { seconds: (performance.now() - startedMs) / 1000, latenciesMs: [] };
      },
    },
  ];
}
