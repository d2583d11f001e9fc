// Generates load on ValidateStream: one validation in each message, many in flight, over plain HTTP/2 to keep the client cheap.

import { connect } from "node:http2";
import { create, toBinary } from "@bufbuild/protobuf";
import { ValidateStreamRequestSchema } from "../gen/session/v1/bulk_validation_pb.ts";
import { SessionService } from "../gen/session/v1/session_service_pb.ts";
import { grpcFrame, onMessages, openRpc } from "../test/helpers/raw_stream.ts";
import type { LoadResult } from "./h2load.ts";

export type StreamLoad = {
  readonly address: string;
  readonly tokens: readonly string[];
  readonly validations: number;
  readonly connections: number;
  /** Validations of a stream that are in flight at once. */
  readonly inFlight: number;
};

/** Opens one stream on each connection. @throws an error if a stream ends early. */
export async function loadValidateStream(load: StreamLoad): Promise<LoadResult> {
  const messages = load.tokens.map((value) => {
    const entries = [{ handle: { case: "token" as const, value } }];
    return grpcFrame(toBinary(ValidateStreamRequestSchema, create(ValidateStreamRequestSchema, { entries })));
  });
  const perStream = Math.ceil(load.validations / load.connections);
  const startedMs = performance.now();
  const latencies = await Promise.all(
    Array.from({ length: load.connections }, () => loadOne(load, messages, perStream)),
  );
  return { seconds: (performance.now() - startedMs) / 1000, latenciesMs: latencies.flat() };
}

function loadOne(load: StreamLoad, messages: readonly Buffer[], count: number): Promise<number[]> {
  const session = connect(`http://${load.address}`, { settings: { initialWindowSize: 2 ** 20, enablePush: false } });
  const stream = openRpc(session, SessionService.method.validateStream);
  const latenciesMs: number[] = [];
  const sentMs: number[] = [];
  return new Promise((resolve, reject) => {
    const sendMore = () => {
      stream.cork();
      while (sentMs.length < count && sentMs.length - latenciesMs.length < load.inFlight) {
        stream.write(messages[sentMs.length % messages.length]!);
        sentMs.push(performance.now());
      }
      stream.uncork();
    };
    stream.on("error", reject);
    stream.on("close", () => reject(new Error("the stream ended early")));
    onMessages(stream, (messages) => {
      // One response may contain several results.
      const results = messages.reduce((sum, message) => sum + resultsIn(message), 0);
      for (let i = 0; i < results; i++) latenciesMs.push(performance.now() - sentMs[latenciesMs.length]!);
      if (latenciesMs.length < count) return sendMore();
      resolve(latenciesMs);
      session.destroy();
    });
    sendMore();
  });
}

/** Counts the `results` of a ValidateStreamResponse without decoding them. */
function resultsIn(message: Buffer): number {
  let count = 0;
  for (let at = 0; at < message.length; count++) {
    // The tag, then the length as a varint.
    let length = 0;
    let shift = 0;
    do length |= (message[++at]! & 0x7f) << (7 * shift++);
    while (message[at]! >= 0x80);
    at += 1 + length;
  }
  return count;
}
