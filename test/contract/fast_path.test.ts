// The fast path: whatever a client sends, it gets the same response as from grpc-js.

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
const RESPONSE = toBinary(
  ValidateSessionResponseSchema,
  create(ValidateSessionResponseSchema, { verdict: Verdict.VALID }),
);

/** The two requests have the same form. */
const requestOf = (sessionId: string) =>
  toBinary(ValidateSessionRequestSchema, create(ValidateSessionRequestSchema, { sessionId }));
/** Too long for the encoded handler below, so it is decoded. */
const DECODED = requestOf("d".repeat(200));
const HANGING_ID = "h".repeat(200);
const HANGING = requestOf("hang");

/** What a client can observe of a response. */
type Observed = {
  readonly httpStatus: unknown;
  readonly contentType: unknown;
  readonly grpcStatus: unknown;
  /** True if the response has a message, and if it has google.rpc details. */
  readonly message: boolean;
  readonly details: boolean;
};

/** A request as it is sent. */
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

describe("the fast path of the gRPC host", () => {
  let hosts: Hosts;
  let session: ClientHttp2Session;
  const hanging: { release: (response: Buffer) => void }[] = [];
  let onHanging: (() => void) | undefined;
  let hangingSignal: AbortSignal | undefined;
  let handledEncoded = 0;

  function hang(): Promise<Buffer> {
    return new Promise((release) => {
      hanging.push({ release });
      onHanging?.();
    });
  }
  /** Waits for a call that hangs; returns what releases it. */
  async function nextHanging(): Promise<(response: Buffer) => void> {
    if (hanging.length === 0) await new Promise<void>((resolve) => (onHanging = resolve));
    return hanging.pop()!.release;
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
    const encodedHandlers: EncodedHandlers = {
      validateSession(request) {
        if (request.length > 100 || request.length < 4 || request[0] !== 0x0a) return undefined;
        handledEncoded++;
        return request.equals(HANGING) ? hang() : Promise.resolve(Buffer.from(RESPONSE));
      },
    };
    hosts = await startHosts(implementation, { encodedHandlers });
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

  async function observe(method: DescMethod, sent: Sent): Promise<Observed> {
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
    test(`${name}: the response is that of grpc-js`, async () => {
      const byGrpcJs = await observe(getSession, sent);
      assert.deepEqual(await observe(validateSession, sent), byGrpcJs);
      assert.notEqual(byGrpcJs.httpStatus, undefined);
    });
  }

  test("calls the encoded handler", async () => {
    const before = handledEncoded;
    await observe(validateSession, SENT["a message"]!);
    assert.equal(handledEncoded, before + 1);
  });

  test("a client that resets its stream gets no response, and affects no other call", async () => {
    for (const code of [constants.NGHTTP2_CANCEL, constants.NGHTTP2_INTERNAL_ERROR]) {
      const started = open(validateSession, {});
      await new Promise((resolve) => started.write(frame.subarray(0, 7), resolve));
      const complete = open(validateSession, {});
      complete.end(grpcFrame(HANGING));
      const release = await nextHanging();
      const closed = [started, complete].map((stream) => new Promise((resolve) => stream.once("close", resolve)));
      for (const stream of [started, complete]) stream.close(code);
      await Promise.all(closed);
      // A later response on the same connection shows that the server has received the resets.
      await observe(validateSession, SENT["a message"]!);
      release(Buffer.from(RESPONSE));
      assert.equal((await observe(validateSession, SENT["a message"]!)).grpcStatus, "0");
    }
  });

  test("the signal of a handler is aborted when its client is gone", async () => {
    const stream = open(validateSession, {});
    stream.end(grpcFrame(requestOf(HANGING_ID)));
    const release = await nextHanging();
    const signal = hangingSignal!;
    const aborted = once(signal, "abort");
    stream.close(constants.NGHTTP2_CANCEL);
    await aborted;
    assert.equal(signal.reason.reason, "CANCELLED");
    release(Buffer.from(RESPONSE));
  });

  test("a drain waits for calls in flight", async () => {
    const wire = grpcWire("grpc", hosts.grpcTarget);
    const response = wire.call(validateSession, HANGING);
    const release = await nextHanging();
    const drained = hosts.grpc.drain(10_000);
    session.close();
    release(Buffer.from(RESPONSE));
    assert.deepEqual(Buffer.from(await response), Buffer.from(RESPONSE));
    wire.close();
    await drained;
  });
});
