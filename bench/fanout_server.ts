// The contestants of the fan-out bench: minimal servers that send an event to every watcher.

import { createServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { Server, ServerCredentials, type handleServerStreamingCall, type ServerWritableStream } from "@grpc/grpc-js";
import { WatchInvalidationsResponseSchema } from "../gen/session/v1/watch_pb.ts";
import { SessionService } from "../gen/session/v1/session_service_pb.ts";
import { serveUsage } from "../test/helpers/server_process.ts";
import { EVENT, EVENT_SPACING_MS } from "./fanout_event.ts";

type Writer = (event: typeof EVENT) => void;

const writers = new Set<Writer>();
const STARTERS: Readonly<Record<string, () => Promise<string>>> = {
  /** A grpc-js stream that writes a prepared Buffer, which is the cheapest way on grpc-js. */
  bare: () => {
    const ready = Buffer.from(toBinary(WatchInvalidationsResponseSchema, EVENT));
    return startGrpcJs(
      (bytes) => bytes as Buffer,
      (call) => () => call.write(ready),
    );
  },
  /** The same, but serialises the message for each watcher. */
  each: () =>
    startGrpcJs(
      (event) => Buffer.from(toBinary(WatchInvalidationsResponseSchema, event as typeof EVENT)),
      (call) => (event) => call.write(event),
    ),
  connect: startConnect,
};

async function startGrpcJs(
  serialize: (message: unknown) => Buffer,
  writerOf: (call: ServerWritableStream<Buffer, unknown>) => Writer,
): Promise<string> {
  const server = new Server({ "grpc.enable_channelz": 0 });
  const { name } = SessionService.method.watchInvalidations;
  const handler: handleServerStreamingCall<Buffer, unknown> = (call) => void writers.add(writerOf(call));
  server.register(`/${SessionService.typeName}/${name}`, handler, serialize, (bytes: Buffer) => bytes, "serverStream");
  const port = await new Promise<number>((resolve, reject) => {
    const credentials = ServerCredentials.createInsecure();
    server.bindAsync("127.0.0.1:0", credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  return `127.0.0.1:${port}`;
}

async function startConnect(): Promise<string> {
  const handler = connectNodeAdapter({
    routes: (router) =>
      router.rpc(SessionService.method.watchInvalidations, async function* () {
        let queue: (typeof EVENT)[] = [];
        let wake: () => void = () => undefined;
        writers.add((event) => {
          queue.push(event);
          wake();
        });
        for (;;) {
          if (queue.length === 0) await new Promise<void>((resolve) => (wake = resolve));
          const taken = queue;
          queue = [];
          yield* taken;
        }
      }),
  });
  const server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Sends `count` events, one every EVENT_SPACING_MS. */
function sendEvents(count: number): void {
  const event = fromBinary(WatchInvalidationsResponseSchema, toBinary(WatchInvalidationsResponseSchema, EVENT));
  let left = count;
  const timer = setInterval(() => {
    for (const write of writers) write(event);
    if (--left === 0) clearInterval(timer);
  }, EVENT_SPACING_MS);
}

serveUsage(await STARTERS[process.argv[2]!]!(), (message) => sendEvents(Number(message)));
