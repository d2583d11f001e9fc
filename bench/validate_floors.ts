// The floors of `npm run bench`: the minimal cost of each part of the stack, each in its own process.

import { createServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { Server, ServerCredentials, type handleUnaryCall, type ServerDuplexStream } from "@grpc/grpc-js";
import { createClient, RESP_TYPES } from "redis";
import { SessionService } from "../gen/session/v1/session_service_pb.ts";
import { grpcFrame } from "../test/helpers/raw_stream.ts";
import { serveUsage } from "../test/helpers/server_process.ts";

const PATH = `/${SessionService.typeName}/${SessionService.method.validateToken.name}`;
const STREAM_PATH = `/${SessionService.typeName}/${SessionService.method.validateStream.name}`;
const IN_FLIGHT = 64;
const asIs = (bytes: Buffer) => bytes;
let onMessage = (_message: string): void => undefined;

/** The kind of floor, the prepared response as base64, the store's port, and the key to read. */
const [kind, responseText, storePort, key] = process.argv.slice(2) as [string, string, string, string];
const response = Buffer.from(responseText, "base64");

const STARTERS: Readonly<Record<string, () => Promise<string>>> = {
  /** grpc-js that responds with a prepared Buffer. */
  echo: () => startGrpcJs((_call, callback) => callback(null, response)),
  /** The same after one GET, on one pipelined connection with the options of the service. */
  "echo-get": async () => {
    const get = await openStore();
    return startGrpcJs((_call, callback) => {
      get().then(
        () => callback(null, response),
        (error: Error) => callback(error),
      );
    });
  },
  /** A stream of grpc-js that responds to each message with a prepared Buffer. */
  stream: () => startStream(),
  /** node:http2 without any gRPC library, with the minimum of a valid gRPC response. */
  http2: startHttp2,
  /** No server. It sends as many GETs as the bench requests by message. */
  get: async () => {
    const get = await openStore();
    onMessage = (count) => void getMany(get, Number(count)).then(() => process.send!("done"));
    return "";
  },
};

type Get = () => Promise<unknown>;

/** Connects with those options of the service's connection that decide the cost of a command. */
async function openStore(): Promise<Get> {
  const client = createClient({
    RESP: 2,
    socket: { host: "127.0.0.1", port: Number(storePort) },
    commandOptions: { timeout: 0, typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } },
  });
  // The store stops when the bench ends, and this process with it.
  client.on("error", () => process.exit());
  await client.connect();
  return () => client.sendCommand(["GET", key]);
}

async function getMany(get: Get, count: number): Promise<void> {
  let left = count;
  async function lane(): Promise<void> {
    while (left-- > 0) await get();
  }
  await Promise.all(Array.from({ length: IN_FLIGHT }, lane));
}

function startGrpcJs(handler: handleUnaryCall<Buffer, Buffer>): Promise<string> {
  const server = new Server({ "grpc.enable_channelz": 0 });
  server.register(PATH, handler, asIs, asIs, "unary");
  return bind(server);
}

function startStream(): Promise<string> {
  const server = new Server({ "grpc.enable_channelz": 0 });
  const respondToEach = (call: ServerDuplexStream<Buffer, Buffer>) => {
    call.on("data", () => void call.write(response));
    call.on("end", () => call.end());
  };
  server.register(STREAM_PATH, respondToEach as unknown as handleUnaryCall<Buffer, Buffer>, asIs, asIs, "bidi");
  return bind(server);
}

async function bind(server: Server): Promise<string> {
  const port = await new Promise<number>((resolve, reject) => {
    const credentials = ServerCredentials.createInsecure();
    server.bindAsync("127.0.0.1:0", credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  return `127.0.0.1:${port}`;
}

async function startHttp2(): Promise<string> {
  const framed = grpcFrame(response);
  const server = createServer();
  server.on("stream", (stream) => {
    stream.resume();
    stream.on("end", () => {
      stream.respond({ ":status": 200, "content-type": "application/grpc+proto" }, { waitForTrailers: true });
      stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.end(framed);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

serveUsage(await STARTERS[kind]!(), (message) => onMessage(message));
