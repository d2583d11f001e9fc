// Load on ValidateStream: one question a message, many under way, over plain HTTP/2 so that the client costs little.

import { connect } from "node:http2";
import { create, toBinary } from "@bufbuild/protobuf";
import { ValidateStreamRequestSchema } from "../gen/session/v1/bulk_validation_pb.ts";
import { SessionService } from "../gen/session/v1/session_service_pb.ts";
import { grpcFrame, onMessages, openRpc } from "../test/helpers/raw_stream.ts";
import type { LoadResult } from "./h2load.ts";

export type StreamLoad = {
  readonly address: string;
  readonly tokens: readonly string[];
  readonly questions: number;
  readonly connections: number;
  /** Questions of a stream that wait for their answers at once. */
  readonly inFlight: number;
};

/** One stream on each connection. @throws Error when a stream ends early. */
export async function loadValidateStream(load: StreamLoad): Promise<LoadResult> {
  const messages = load.tokens.map((value) => {
    const entries = [{ handle: { case: "token" as const, value } }];
    return grpcFrame(toBinary(ValidateStreamRequestSchema, create(ValidateStreamRequestSchema, { entries })));
  });
  const perStream = Math.ceil(load.questions / load.connections);
  const startedMs = performance.now();
  const latencies = await Promise.all(
    Array.from({ length: load.connections }, () => loadOne(load, messages, perStream)),
  );
  return { seconds: (performance.now() - startedMs) / 1000, latenciesMs: latencies.flat() };
}

function loadOne(load: StreamLoad, messages: readonly Buffer[], questions: number): Promise<number[]> {
  const session = connect(`http://${load.address}`, { settings: { initialWindowSize: 2 ** 20, enablePush: false } });
  const stream = openRpc(session, SessionService.method.validateStream);
  const latenciesMs: number[] = [];
  const sentMs: number[] = [];
  return new Promise((resolve, reject) => {
    const sendMore = () => {
      stream.cork();
      while (sentMs.length < questions && sentMs.length - latenciesMs.length < load.inFlight) {
        stream.write(messages[sentMs.length % messages.length]!);
        sentMs.push(performance.now());
      }
      stream.uncork();
    };
    stream.on("error", reject);
    stream.on("close", () => reject(new Error("the stream ended early")));
    onMessages(stream, (messages) => {
      // One message may hold several.
      const answers = messages.reduce((sum, message) => sum + resultsIn(message), 0);
      for (let i = 0; i < answers; i++) latenciesMs.push(performance.now() - sentMs[latenciesMs.length]!);
      if (latenciesMs.length < questions) return sendMore();
      resolve(latenciesMs);
      session.destroy();
    });
    sendMore();
  });
}

/** How many `results` a ValidateStreamResponse has, without decoding them. */
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
