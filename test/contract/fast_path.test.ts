// The methods that are served on their HTTP/2 streams: a caller cannot tell them from those that grpc-js serves, whatever it sends.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, constants, type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";
import { after, before, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { create, toBinary, type DescMethod } from "@bufbuild/protobuf";
import { Verdict } from "../../gen/session/v1/session_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import {
  ValidateSessionRequestSchema,
  ValidateSessionResponseSchema,
} from "../../gen/session/v1/simple_sessions_pb.ts";
import type { EncodedHandlers, SessionServiceImpl } from "../../src/service/handlers.ts";
import { grpcFrame, openRpc } from "../helpers/raw_stream.ts";
import { grpcWire, startHosts, type Hosts } from "../helpers/rpc_hosts.ts";

const { getSession, validateSession } = SessionService.method;
const ANSWER = toBinary(
  ValidateSessionResponseSchema,
  create(ValidateSessionResponseSchema, { verdict: Verdict.VALID }),
);

/** The two requests have the same form. */
const requestOf = (sessionId: string) =>
  toBinary(ValidateSessionRequestSchema, create(ValidateSessionRequestSchema, { sessionId }));
/** Too long for a direct answer. */
const DECODED = requestOf("d".repeat(200));
const HANGING_ID = "h".repeat(200);
const HANGING = requestOf("hang");

/** What a caller can tell of an answer. */
type Told = {
  readonly httpStatus: unknown;
  readonly contentType: unknown;
  readonly grpcStatus: unknown;
  /** Whether a message came, and google.rpc details. */
  readonly message: boolean;
  readonly details: boolean;
};

/** A request: whatever is sent, and with which headers. */
type Sent = {
  readonly headers?: Record<string, string>;
  readonly chunks: readonly Uint8Array[];
  /** Default true. */
  readonly ends?: boolean;
};

const frame = grpcFrame(requestOf("one"));
const refused = grpcFrame(requestOf("r".repeat(300)));
const compressed = (bytes: Uint8Array) => {
  const framed = grpcFrame(bytes);
  framed[0] = 1;
  return framed;
};

const SENT: Readonly<Record<string, Sent>> = {
  "a message": { chunks: [frame] },
  "a message byte by byte": { chunks: Array.from(frame, (byte) => Buffer.of(byte)) },
  "a long message byte by byte": { chunks: Array.from(refused, (byte) => Buffer.of(byte)) },
  "a message in two": { chunks: [refused.subarray(0, 100), refused.subarray(100)] },
  "a message that is decoded": { chunks: [grpcFrame(DECODED)] },
  "with +proto": { headers: { "content-type": "application/grpc+proto" }, chunks: [frame] },
  "with +json": { headers: { "content-type": "application/grpc+json" }, chunks: [frame] },
  "with a charset": { headers: { "content-type": "application/grpc; charset=utf-8" }, chunks: [frame] },
  "not gRPC": { headers: { "content-type": "application/json" }, chunks: [Buffer.from("{}")] },
  "with identity": { headers: { "grpc-encoding": "identity" }, chunks: [frame] },
  "with gzip": { headers: { "grpc-encoding": "gzip" }, chunks: [compressed(gzipSync(requestOf("one")))] },
  "with gzip, not compressed": { headers: { "grpc-encoding": "gzip" }, chunks: [frame] },
  "with an unknown encoding": { headers: { "grpc-encoding": "lzma" }, chunks: [compressed(requestOf("one"))] },
  "with a deadline": { headers: { "grpc-timeout": "10S" }, chunks: [frame] },
  "with a deadline in nanoseconds": { headers: { "grpc-timeout": "99999999n" }, chunks: [frame] },
  "with a deadline of 30 days": { headers: { "grpc-timeout": "2592000S" }, chunks: [frame] },
  "with a malformed deadline": { headers: { "grpc-timeout": "soon" }, chunks: [frame] },
  "with a deadline of nine digits": { headers: { "grpc-timeout": "100000000n" }, chunks: [frame] },
  "half a message, until the deadline": {
    headers: { "grpc-timeout": "50m" },
    chunks: [frame.subarray(0, 9)],
    ends: false,
  },
  "a message that is not ended, until the deadline": {
    headers: { "grpc-timeout": "50m" },
    chunks: [frame],
    ends: false,
  },
  nothing: { chunks: [] },
  "half a header": { chunks: [frame.subarray(0, 3)] },
  "half a message": { chunks: [frame.subarray(0, frame.length - 1)] },
  "two messages": { chunks: [frame, frame] },
  "two messages at once": { chunks: [Buffer.concat([frame, frame])] },
  "a message of no fields": { chunks: [grpcFrame(Buffer.alloc(0))] },
  "a message that does not decode": { chunks: [grpcFrame(Buffer.from("0aff", "hex"))] },
  "a message against the rules": { chunks: [refused] },
  "a message that is too large": { chunks: [grpcFrame(Buffer.alloc(300 * 1024))] },
  "a length that is too large": { chunks: [Buffer.from("00ffffffff", "hex")] },
};

describe("the direct methods of the gRPC host", () => {
  let hosts: Hosts;
  let session: ClientHttp2Session;
  const waiting: { release: (answer: Buffer) => void }[] = [];
  let onAsked: (() => void) | undefined;
  let hangingSignal: AbortSignal | undefined;
  let directly = 0;

  function hang(): Promise<Buffer> {
    return new Promise((release) => {
      waiting.push({ release });
      onAsked?.();
    });
  }
  async function asking(): Promise<(answer: Buffer) => void> {
    if (waiting.length === 0) await new Promise<void>((resolve) => (onAsked = resolve));
    return waiting.pop()!.release;
  }

  before(async () => {
    const implementation: SessionServiceImpl = {
      getSession: async () => ({}),
      async validateSession({ sessionId }, { signal }) {
        if (sessionId === HANGING_ID) {
          hangingSignal = signal;
          await hang();
        }
        return { verdict: Verdict.VALID };
      },
    };
    const direct: EncodedHandlers = {
      validateSession(request) {
        if (request.length > 100 || request.length < 4 || request[0] !== 0x0a) return undefined;
        directly++;
        return request.equals(HANGING) ? hang() : Promise.resolve(Buffer.from(ANSWER));
      },
    };
    hosts = await startHosts(implementation, { encodedHandlers: direct });
    session = connect(`http://${hosts.grpcTarget}`);
    await once(session, "connect");
  });
  after(async () => {
    session.destroy();
    await hosts.close();
  });

  function open(method: DescMethod, { headers }: Pick<Sent, "headers">): ClientHttp2Stream {
    const stream = openRpc(session, method, headers);
    stream.on("error", () => undefined);
    return stream;
  }

  async function told(method: DescMethod, sent: Sent): Promise<Told> {
    const stream = open(method, sent);
    let head: Record<string, unknown> = {};
    let trailers: Record<string, unknown> = {};
    let bytes = 0;
    stream.on("response", (headers) => (head = headers));
    stream.on("trailers", (headers) => (trailers = headers));
    stream.on("data", (chunk: Buffer) => (bytes += chunk.length));
    const closed = once(stream, "close");
    for (const chunk of sent.chunks) {
      // One DATA frame each.
      if (!stream.destroyed) await new Promise((resolve) => stream.write(chunk, resolve));
    }
    if (sent.ends !== false) stream.end();
    else stream.once("end", () => stream.close());
    await closed;
    return {
      httpStatus: head[":status"],
      contentType: head["content-type"],
      grpcStatus: head["grpc-status"] ?? trailers["grpc-status"],
      message: bytes > 0,
      details: "grpc-status-details-bin" in head || "grpc-status-details-bin" in trailers,
    };
  }

  for (const [name, sent] of Object.entries(SENT)) {
    test(`${name}: answered as grpc-js answers it`, async () => {
      const byGrpcJs = await told(getSession, sent);
      assert.deepEqual(await told(validateSession, sent), byGrpcJs);
      assert.notEqual(byGrpcJs.httpStatus, undefined);
    });
  }

  test("is answered directly", async () => {
    const before = directly;
    await told(validateSession, SENT["a message"]!);
    assert.equal(directly, before + 1);
  });

  test("a caller that is gone is not answered, and harms nobody", async () => {
    for (const code of [constants.NGHTTP2_CANCEL, constants.NGHTTP2_INTERNAL_ERROR]) {
      const started = open(validateSession, {});
      await new Promise((resolve) => started.write(frame.subarray(0, 7), resolve));
      const asked = open(validateSession, {});
      asked.end(grpcFrame(HANGING));
      const release = await asking();
      const closed = [started, asked].map((stream) => new Promise((resolve) => stream.once("close", resolve)));
      for (const stream of [started, asked]) stream.close(code);
      await Promise.all(closed);
      // What comes after it on the same connection is answered when the server knows of it.
      await told(validateSession, SENT["a message"]!);
      release(Buffer.from(ANSWER));
      assert.equal((await told(validateSession, SENT["a message"]!)).grpcStatus, "0");
    }
  });

  test("a handler learns that its caller is gone", async () => {
    const stream = open(validateSession, {});
    stream.end(grpcFrame(requestOf(HANGING_ID)));
    const release = await asking();
    const signal = hangingSignal!;
    const aborted = once(signal, "abort");
    stream.close(constants.NGHTTP2_CANCEL);
    await aborted;
    assert.equal(signal.reason.reason, "CANCELLED");
    release(Buffer.from(ANSWER));
  });

  test("a drain waits for what is under way", async () => {
    const wire = grpcWire("grpc", hosts.grpcTarget);
    const answer = wire.call(validateSession, HANGING);
    const release = await asking();
    const drained = hosts.grpc.drain(10_000);
    session.close();
    release(Buffer.from(ANSWER));
    assert.deepEqual(Buffer.from(await answer), Buffer.from(ANSWER));
    wire.close();
    await drained;
  });
});
