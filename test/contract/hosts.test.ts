// Both hosts on every wire: decoding, deadlines, cancellation, streams, draining, TLS, Unix sockets and the HTTP pages.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect as connectHttp2 } from "node:http2";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, before, describe, test } from "node:test";
import { create, fromBinary, toBinary, type DescMethod } from "@bufbuild/protobuf";
import { createClient, ConnectError, Code } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { Client, credentials, type CallOptions as GrpcCallOptions } from "@grpc/grpc-js";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { ValidateStreamRequestSchema, ValidateStreamResponseSchema } from "../../gen/session/v1/bulk_validation_pb.ts";
import { WatchInvalidationsRequestSchema } from "../../gen/session/v1/watch_pb.ts";
import { Verdict } from "../../gen/session/v1/session_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import {
  CreateSessionRequestSchema,
  CreateSessionResponseSchema,
  GetSessionRequestSchema,
} from "../../gen/session/v1/simple_sessions_pb.ts";
import { RotateTokenRequestSchema } from "../../gen/session/v1/secure_sessions_pb.ts";
import type { CallContext } from "../../src/domain/call.ts";
import type { SessionError } from "../../src/domain/errors.ts";
import type { SessionServiceImpl } from "../../src/service/handlers.ts";
import { grpcWire, pathOf, postJson, startHosts, wireErrorOfJson, wiresOf } from "../helpers/rpc_hosts.ts";
import { connectRaw, grpcFrame, openRpc } from "../helpers/raw_stream.ts";
import { countLostTime } from "../helpers/lost_time.ts";
import type { Hosts, HostsOptions, Wire, WireError } from "../helpers/rpc_hosts.ts";

const { createSession, getSession, rotateToken, validateStream, watchInvalidations } = SessionService.method;

/** An implementation that records what happens to its calls. getSession hangs until it is released. */
function createProbe() {
  const entered: { call: CallContext; release: () => void }[] = [];
  let onEnter: (() => void) | undefined;
  const streams = { produced: 0, returned: 0 };
  const implementation: SessionServiceImpl = {
    async createSession({ userId, data }) {
      return { session: { userId, data } };
    },
    async getSession(_, call) {
      await new Promise<void>((resolve) => {
        entered.push({ call, release: resolve });
        onEnter?.();
      });
      return { session: { userId: "released" } };
    },
    async *validateStream(requests) {
      for await (const { entries } of requests) {
        yield { results: entries.map(() => ({ verdict: Verdict.INVALID })) };
      }
    },
    async *watchInvalidations({ userIds }, { signal }) {
      try {
        for (; ; streams.produced++) {
          yield { event: { case: "checkpoint", value: { nonce: "x".repeat(Number(userIds[0] ?? 1)) } } };
          if (userIds.length === 0) await once(signal, "abort");
          signal.throwIfAborted();
        }
      } finally {
        streams.returned++;
      }
    },
  };
  return {
    implementation,
    streams,
    /** The next call that waits in getSession. */
    async nextCall() {
      if (entered.length === 0) await new Promise<void>((resolve) => (onEnter = resolve));
      return entered.shift()!;
    },
  };
}

type Probe = ReturnType<typeof createProbe>;

async function withHosts(options: HostsOptions, run: (hosts: Hosts, wires: Wire[], probe: Probe) => Promise<void>) {
  const probe = createProbe();
  const hosts = await startHosts(probe.implementation, options);
  const wires = wiresOf(hosts);
  try {
    await run(hosts, wires, probe);
  } finally {
    for (const wire of wires) wire.close();
    await hosts.close();
  }
}

const createBytes = (init: { userId: string }) =>
  toBinary(CreateSessionRequestSchema, create(CreateSessionRequestSchema, init));
const THIRTY_DAYS_MS = 30 * 24 * 3_600_000;
const GET_BYTES = toBinary(GetSessionRequestSchema, create(GetSessionRequestSchema, { sessionId: "hang" }));

describe("unary calls", () => {
  let hosts: Hosts;
  let wires: Wire[];
  before(async () => {
    hosts = await startHosts(createProbe().implementation);
    wires = wiresOf(hosts);
  });
  after(async () => {
    for (const wire of wires) wire.close();
    await hosts.close();
  });

  const onEveryWire = (name: string, run: (wire: Wire) => Promise<void>) => {
    void test(name, async () => {
      for (const wire of wires) await run(wire);
    });
  };

  onEveryWire("succeed", async (wire) => {
    const response = fromBinary(
      CreateSessionResponseSchema,
      await wire.call(createSession, createBytes({ userId: "eve" })),
    );
    assert.equal(response.session?.userId, "eve", wire.name);
  });

  onEveryWire("that are not implemented name the method", async (wire) => {
    const request = toBinary(RotateTokenRequestSchema, create(RotateTokenRequestSchema, { token: "t" }));
    await assert.rejects(wire.call(rotateToken, request), (error: WireError) => {
      assert.deepEqual([error.code, error.reason], ["UNIMPLEMENTED", "METHOD_NOT_IMPLEMENTED"], wire.name);
      assert.match(error.message, /session\.v1\.SessionService\/RotateToken/);
      return true;
    });
  });

  const lengthDelimited = (field: number, bytes: Uint8Array): Buffer => {
    const length: number[] = [];
    let rest = bytes.length;
    for (; rest > 127; rest >>>= 7) length.push((rest & 127) | 128);
    return Buffer.concat([Buffer.of((field << 3) | 2, ...length, rest), bytes]);
  };
  const deepStruct = (levels: number): Buffer => {
    let struct: Buffer = Buffer.alloc(0);
    for (let level = 0; level < levels; level++) {
      const value = lengthDelimited(5, struct);
      struct = lengthDelimited(1, Buffer.concat([lengthDelimited(1, Buffer.from("k")), lengthDelimited(2, value)]));
    }
    return Buffer.concat([createBytes({ userId: "u" }), lengthDelimited(2, struct)]);
  };
  for (const [name, bytes] of [
    ["bytes that are not UTF-8", lengthDelimited(1, Buffer.of(0xff, 0xfe))],
    ["a surrogate as UTF-8", lengthDelimited(1, Buffer.of(0xed, 0xa0, 0x80))],
    ["3,000 levels of Struct", deepStruct(3_000)],
    ["a truncated message", createBytes({ userId: "truncated" }).subarray(0, -1)],
  ] as const) {
    onEveryWire(`with ${name} are INVALID_ARGUMENT`, async (wire) => {
      const expected = { code: "INVALID_ARGUMENT", reason: "INVALID_REQUEST", domain: "session-authority" };
      await assert.rejects(wire.call(createSession, bytes), expected, wire.name);
    });
  }

  onEveryWire("over 256 KiB are RESOURCE_EXHAUSTED", async (wire) => {
    const bytes = createBytes({ userId: "x".repeat(256 * 1024) });
    await assert.rejects(wire.call(createSession, bytes), { code: "RESOURCE_EXHAUSTED" }, wire.name);
  });
});

describe("JSON", () => {
  let hosts: Hosts;
  before(async () => (hosts = await startHosts(createProbe().implementation)));
  after(() => hosts.close());

  test("takes both spellings of a name, and omits default values from the response", async () => {
    for (const body of ['{"userId": "eve", "data": {"a": 1}}', '{"user_id": "eve", "data": {"a": 1}}']) {
      const response = await postJson(hosts.httpUrl, createSession, body);
      assert.deepEqual(response, { status: 200, json: { session: { userId: "eve", data: { a: 1 } } } });
    }
  });

  for (const [name, body, field] of [
    ["a lone surrogate in a field", '{"userId": "\\ud800"}', "user_id"],
    [
      "a lone surrogate deep in data",
      `{"userId": "u", "data": {"a": ${'{"b":'.repeat(20)}["\\udfff"]${"}".repeat(20)}}}`,
      "data",
    ],
    ["a lone surrogate as a member of data", '{"userId": "u", "data": {"\\ud800": 1}}', "data"],
    [
      "bytes that are not UTF-8",
      Buffer.concat([Buffer.from('{"userId": "'), Buffer.of(0xff), Buffer.from('"}')]),
      undefined,
    ],
    ["an unknown enum value", '{"userId": "u", "ipBinding": "IP_BINDING_MAYBE"}', undefined],
    ["a wrong type", '{"userId": 5}', "user_id"],
    ["an unknown name", '{"userId": "u", "idleTimout": "5s"}', undefined],
    ["3,000 levels", `{"userId": "u", "data": ${'{"a":'.repeat(3_000)}1${"}".repeat(3_000)}}`, undefined],
    ["60,000 levels", `{"userId": "u", "data": {"a": ${"[".repeat(60_000)}${"]".repeat(60_000)}}}`, undefined],
    ["text that is not JSON", "not json", undefined],
  ] as const) {
    test(`with ${name} is invalid_argument`, async () => {
      const { status, json } = await postJson(hosts.httpUrl, createSession, body);
      const error = wireErrorOfJson(json as never);
      assert.deepEqual([status, error.code, error.reason], [400, "INVALID_ARGUMENT", "INVALID_REQUEST"]);
      if (field !== undefined) assert.deepEqual(error.fields, [field]);
    });
  }

  test("over Connect, gRPC and gRPC-Web clients is checked in the same way", async () => {
    for (const transport of [createConnectTransport, createGrpcTransport, createGrpcWebTransport]) {
      const client = createClient(
        SessionService,
        transport({ baseUrl: hosts.httpUrl, httpVersion: "2", useBinaryFormat: false }),
      );
      const data = { text: "\ud800" };
      await assert.rejects(client.createSession({ userId: "u", data }), { code: Code.InvalidArgument });
    }
  });
});

describe("deadlines", () => {
  test("a call whose handler hangs is UNAVAILABLE before the client's deadline", async () => {
    await withHosts({}, async (_, wires, probe) => {
      for (const wire of wires) {
        const lostMs = countLostTime();
        const startedMs = performance.now();
        const failure = wire.call(getSession, GET_BYTES, { timeoutMs: 400 });
        const expected = { code: "UNAVAILABLE", reason: "STORE_TIMEOUT", domain: "session-authority" };
        await assert.rejects(failure, expected, wire.name);
        const tookMs = performance.now() - startedMs - lostMs();
        assert.ok(tookMs < 450, `${wire.name}: ${tookMs} ms`);
        const { call } = await probe.nextCall();
        assert.ok(call.deadlineMs - startedMs < 400, wire.name);
        assert.equal((call.signal.reason as SessionError).reason, "STORE_TIMEOUT");
      }
    });
  });

  test("a call without a deadline ends within the server's own, and one with a long deadline too", async () => {
    await withHosts({ requestTimeoutMs: 100 }, async (_, wires) => {
      for (const wire of wires) {
        for (const options of [{}, { timeoutMs: 60_000 }]) {
          const lostMs = countLostTime();
          const startedMs = performance.now();
          const failure = wire.call(getSession, GET_BYTES, options);
          await assert.rejects(failure, { code: "UNAVAILABLE", reason: "STORE_TIMEOUT" }, wire.name);
          const tookMs = performance.now() - startedMs;
          assert.ok(tookMs >= 95 && tookMs - lostMs() < 150, `${wire.name}: ${tookMs} ms`);
        }
      }
    });
  });

  test("a unary call with a deadline of 30 days is served", async () => {
    await withHosts({}, async (_, wires, probe) => {
      for (const wire of wires) {
        const response = wire.call(getSession, GET_BYTES, { timeoutMs: THIRTY_DAYS_MS });
        const { call, release } = await probe.nextCall();
        await overflowedTimers();
        assert.equal(call.signal.aborted, false, wire.name);
        release();
        await response;
      }
    });
  });

  test("a stream with a deadline of 30 days stays open", async () => {
    await withHosts({}, async (hosts, _, probe) => {
      for (const target of [hosts.grpcTarget, hosts.httpTarget]) {
        const client = new Client(target, credentials.createInsecure());
        const call = watchCall(client, [], { deadline: Date.now() + THIRTY_DAYS_MS });
        call.on("error", () => undefined);
        await once(call, "data");
        await overflowedTimers();
        assert.equal(probe.streams.returned, 0, target);
        call.cancel();
        await until(() => probe.streams.returned === 1);
        probe.streams.returned = 0;
        client.close();
      }
    });
  });

  test("the longest deadline of each protocol is served", async () => {
    await withHosts({}, async (hosts, [, , , connectWire], probe) => {
      const connectCall = connectWire!.call(getSession, GET_BYTES, {
        headers: { "connect-timeout-ms": "9999999999" },
      });
      const grpcCalls = [hosts.grpcTarget, hosts.httpTarget].map((target) =>
        rawStatus(target, getSession, { "grpc-timeout": "99999999H" }, GET_BYTES),
      );
      const entered = [await probe.nextCall(), await probe.nextCall(), await probe.nextCall()];
      await overflowedTimers();
      for (const { call, release } of entered) {
        assert.equal(call.signal.aborted, false);
        release();
      }
      await connectCall;
      assert.deepEqual(await Promise.all(grpcCalls), ["0", "0"]);
    });
  });

  for (const timeout of ["100000000n", "-1S", "1.5S", "0x5S", "5S, 5S", "5", "soon", ""]) {
    test(`a grpc-timeout of ${JSON.stringify(timeout)} is INVALID_ARGUMENT on both hosts`, async () => {
      await withHosts({}, async (hosts) => {
        const bytes = createBytes({ userId: "eve" });
        for (const target of [hosts.grpcTarget, hosts.httpTarget]) {
          assert.equal(await rawStatus(target, createSession, { "grpc-timeout": timeout }, bytes), "3", target);
        }
      });
    });
  }

  test("a stream has the client's deadline only", async () => {
    await withHosts({ requestTimeoutMs: 20 }, async (hosts) => {
      for (const baseUrl of [`http://${hosts.grpcTarget}`, hosts.httpUrl]) {
        const client = createClient(SessionService, createGrpcTransport({ baseUrl }));
        const startedMs = performance.now();
        await assert.rejects(
          async () => {
            for await (const _ of client.watchInvalidations({}, { timeoutMs: 150 })) continue;
          },
          { code: Code.DeadlineExceeded },
        );
        assert.ok(performance.now() - startedMs > 100);
      }
    });
  });
});

/** Waits until a timer would have fired whose delay is too long for setTimeout: it fires after 1 ms. */
function overflowedTimers(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 10));
}

/** Makes a unary gRPC call with headers that clients do not send; returns its grpc-status. */
async function rawStatus(target: string, method: DescMethod, headers: Record<string, string>, request: Uint8Array) {
  const session = await connectRaw(target);
  const stream = openRpc(session, method, headers);
  let grpcStatus: unknown;
  stream.on("response", (received) => (grpcStatus = received["grpc-status"]));
  stream.on("trailers", (received) => (grpcStatus = received["grpc-status"]));
  stream.end(grpcFrame(request));
  stream.resume();
  await once(stream, "close");
  session.destroy();
  return grpcStatus;
}

describe("cancellation", () => {
  test("aborts the handler's signal", async () => {
    await withHosts({}, async (_, wires, probe) => {
      for (const wire of wires) {
        const cancel = new AbortController();
        const outcome = wire.call(getSession, GET_BYTES, { signal: cancel.signal }).catch(() => undefined);
        const { call } = await probe.nextCall();
        const aborted = once(call.signal, "abort");
        cancel.abort();
        await aborted;
        assert.equal((call.signal.reason as SessionError).reason, "CANCELLED", wire.name);
        await outcome;
      }
    });
  });

  test("a signal that is read after the call was aborted is aborted", async () => {
    await withHosts({ requestTimeoutMs: 20 }, async (_, [wire], probe) => {
      await assert.rejects(wire!.call(getSession, GET_BYTES));
      const { call } = await probe.nextCall();
      assert.equal(call.signal.aborted, true);
    });
  });

  test("ends a stream's handler", async () => {
    await withHosts({}, async (hosts, _, probe) => {
      for (const transport of streamTransports(hosts)) {
        const cancel = new AbortController();
        const returned = probe.streams.returned;
        await assert.rejects(async () => {
          const stream = createClient(SessionService, transport).watchInvalidations({}, cancel);
          for await (const _ of stream) cancel.abort();
        });
        await until(() => probe.streams.returned > returned);
      }
    });
  });
});

function streamTransports(hosts: Hosts) {
  const http = { baseUrl: hosts.httpUrl, httpVersion: "2" as const };
  return [
    createGrpcTransport({ baseUrl: `http://${hosts.grpcTarget}` }),
    createGrpcTransport(http),
    createGrpcWebTransport(http),
    createConnectTransport(http),
  ];
}

/** Lets the event loop turn until something holds; the test's own timeout is the limit. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve));
}

describe("streams", () => {
  test("bidirectional ones respond to each message as it comes", async () => {
    await withHosts({}, async (hosts) => {
      for (const transport of streamTransports(hosts)) {
        let sendNext: (() => void) | undefined;
        async function* requests() {
          for (let count = 1; count <= 3; count++) {
            yield { entries: Array.from({ length: count }, () => ({})) };
            await new Promise<void>((resolve) => (sendNext = resolve));
          }
        }
        const counts: number[] = [];
        for await (const { results } of createClient(SessionService, transport).validateStream(requests())) {
          counts.push(results.length);
          sendNext?.();
        }
        assert.deepEqual(counts, [1, 2, 3]);
      }
    });
  });

  test("a bad message ends a bidirectional one with INVALID_ARGUMENT, after the responses before it", async () => {
    await withHosts({}, async (hosts) => {
      for (const transport of streamTransports(hosts)) {
        const counts: number[] = [];
        const requests = Readable.from([{ entries: [{}] }, { entries: [] }]);
        await assert.rejects(
          async () => {
            const stream = createClient(SessionService, transport).validateStream(requests);
            for await (const { results } of stream) counts.push(results.length);
          },
          (error: ConnectError) => {
            assert.equal(error.code, Code.InvalidArgument);
            assert.equal(error.findDetails(ErrorInfoSchema)[0]?.reason, "INVALID_REQUEST");
            return true;
          },
        );
        assert.deepEqual(counts, [1]);
      }
    });
  });

  test("bytes that do not decode end a bidirectional one with INVALID_ARGUMENT", async () => {
    await withHosts({}, async (hosts) => {
      for (const target of [hosts.grpcTarget, hosts.httpTarget]) {
        const client = new Client(target, credentials.createInsecure());
        const call = bidiCall(client);
        call.write(toBinary(ValidateStreamRequestSchema, create(ValidateStreamRequestSchema, { entries: [{}] })));
        const [response] = (await once(call, "data")) as [Buffer];
        assert.equal(fromBinary(ValidateStreamResponseSchema, response).results.length, 1);
        call.write(Buffer.of(0xff));
        const [error] = (await once(call, "error")) as [{ code: number }];
        assert.equal(error.code, 3);
        client.close();
      }
    });
  });

  test("a client that does not read stops the handler, and then gets everything", async () => {
    await withHosts({}, async (hosts, _, probe) => {
      for (const target of [hosts.grpcTarget, hosts.httpTarget]) {
        const client = new Client(target, credentials.createInsecure());
        probe.streams.produced = 0;
        const call = watchCall(client, ["10000"]);
        await once(call, "readable");
        // The handler never waits, so only the client's pace can hold it back: it stops once all buffers are full.
        let last = -1;
        let stalledTurns = 0;
        await until(() => {
          stalledTurns = probe.streams.produced === last ? stalledTurns + 1 : 0;
          last = probe.streams.produced;
          return stalledTurns === 500;
        });
        assert.ok(probe.streams.produced < 1_000, `${target}: ${probe.streams.produced}`);
        let read = 0;
        call.on("data", () => read++);
        await until(() => read > 1_000);
        call.on("error", () => undefined);
        call.cancel();
        client.close();
      }
    });
  });

  test("a client that never reads loses its stream", async () => {
    await withHosts({ slowReaderMs: 50 }, async (hosts, _, probe) => {
      for (const target of [hosts.grpcTarget, hosts.httpTarget]) {
        const client = new Client(target, credentials.createInsecure());
        const returned = probe.streams.returned;
        const call = watchCall(client, ["10000"]);
        // Until its first message is awaited, grpc-js takes in everything.
        await once(call, "readable");
        const failed = once(call, "error") as Promise<[{ code: number }]>;
        await until(() => probe.streams.returned > returned);
        call.resume();
        assert.equal((await failed)[0].code, 8);
        client.close();
      }
    });
  });
});

const asBuffer = (bytes: Uint8Array) => Buffer.from(bytes);
const asIs = (bytes: Buffer) => bytes;

function bidiCall(client: Client) {
  return client.makeBidiStreamRequest<Uint8Array, Buffer>(pathOf(validateStream), asBuffer, asIs);
}

function watchCall(client: Client, userIds: string[], options: GrpcCallOptions = {}) {
  const request = create(WatchInvalidationsRequestSchema, { userIds });
  const bytes = toBinary(WatchInvalidationsRequestSchema, request);
  const path = pathOf(watchInvalidations);
  return client.makeServerStreamRequest<Uint8Array, Buffer>(path, asBuffer, asIs, bytes, options);
}

describe("draining", () => {
  test("finishes calls in flight on every wire, and accepts no new ones", async () => {
    await withHosts({}, async (hosts, wires, probe) => {
      const responses = wires.map((wire) => wire.call(getSession, GET_BYTES));
      const calls = [];
      for (const _ of wires) calls.push(await probe.nextCall());
      let drained = false;
      const draining = Promise.all([hosts.grpc.drain(60_000), hosts.http.drain(60_000)]).then(() => (drained = true));
      for (const target of [hosts.grpcTarget, hosts.httpTarget]) {
        const late = grpcWire("late", target);
        await assert.rejects(late.call(createSession, createBytes({ userId: "late" })), { code: "UNAVAILABLE" });
        late.close();
      }
      assert.equal(drained, false);
      for (const call of calls) call.release();
      await Promise.all(responses);
      await draining;
    });
  });

  test("announces the end of an HTTP/1.1 connection in its last response", async () => {
    await withHosts({}, async (hosts, _, probe) => {
      const headers = { "content-type": "application/json" };
      const response = fetch(hosts.httpUrl + pathOf(getSession), {
        method: "POST",
        headers,
        body: '{"sessionId":"s"}',
      });
      const { release } = await probe.nextCall();
      const draining = hosts.http.drain(60_000);
      release();
      assert.equal((await response).headers.get("connection"), "close");
      await draining;
    });
  });

  test("closes a connection of HTTP/1.1 after a stream that had begun", { timeout: 10_000 }, async () => {
    await withHosts({}, async (hosts) => {
      const headers = { "content-type": "application/connect+json" };
      const body = Buffer.concat([Buffer.of(0, 0, 0, 0, 2), Buffer.from("{}")]);
      const response = await fetch(hosts.httpUrl + pathOf(watchInvalidations), { method: "POST", headers, body });
      assert.equal(response.headers.get("connection"), "keep-alive");
      const startedMs = performance.now();
      const draining = hosts.http.drain(60_000);
      assert.match(await response.text(), /SHUTTING_DOWN/);
      await draining;
      assert.ok(performance.now() - startedMs < 2_000);
    });
  });

  test("ends streams with SHUTTING_DOWN and a hint when to come back", async () => {
    await withHosts({}, async (hosts) => {
      const overHttp1 = createConnectTransport({ baseUrl: hosts.httpUrl, httpVersion: "1.1" });
      const opened = [...streamTransports(hosts), overHttp1].map(async (transport) => {
        const stream = createClient(SessionService, transport).watchInvalidations({})[Symbol.asyncIterator]();
        await stream.next();
        return stream;
      });
      const streams = await Promise.all(opened);
      const ends = streams.map((stream) => stream.next().catch((error: ConnectError) => error));
      const draining = Promise.all([hosts.grpc.drain(60_000), hosts.http.drain(60_000)]);
      for (const end of await Promise.all(ends)) {
        assert.ok(end instanceof ConnectError);
        assert.equal(end.code, Code.Unavailable);
        assert.equal(end.findDetails(ErrorInfoSchema)[0]?.reason, "SHUTTING_DOWN");
        assert.equal(end.details.length, 2);
      }
      await draining;
    });
  });

  test("refuses new streams on connections that are still open", async () => {
    await withHosts({}, async (hosts) => {
      hosts.pipeline.endStreams();
      for (const transport of streamTransports(hosts)) {
        const stream = createClient(SessionService, transport).watchInvalidations({});
        await assert.rejects(stream[Symbol.asyncIterator]().next(), (error: ConnectError) => {
          return error.findDetails(ErrorInfoSchema)[0]?.reason === "SHUTTING_DOWN";
        });
      }
    });
  });

  test("does not wait for connections that send nothing", { timeout: 10_000 }, async () => {
    await withHosts({}, async (hosts) => {
      for (const host of [hosts.grpc, hosts.http]) {
        const silent = connect(host.address as { host: string; port: number });
        const idle = connect(host.address as { host: string; port: number });
        // It does not matter how they are closed.
        for (const socket of [silent, idle]) socket.on("error", () => undefined).resume();
        await Promise.all([once(silent, "connect"), once(idle, "connect")]);
        idle.write("P");
        await until(() => idle.bytesWritten === 1);
        await host.drain(60_000);
        silent.destroy();
        idle.destroy();
      }
    });
  });

  test("cuts off calls that have not finished after the grace", async () => {
    await withHosts({}, async (hosts, wires, probe) => {
      const outcomes = wires.map((wire) => wire.call(getSession, GET_BYTES).catch((error: unknown) => error));
      for (const _ of wires) await probe.nextCall();
      const silent = connect(hosts.http.address as { host: string; port: number });
      await once(silent, "connect");
      const startedMs = performance.now();
      await Promise.all([hosts.grpc.drain(50), hosts.http.drain(50)]);
      const tookMs = performance.now() - startedMs;
      assert.ok(tookMs >= 45 && tookMs < 200, `${tookMs} ms`);
      for (const outcome of await Promise.all(outcomes)) assert.ok(outcome instanceof Error);
      silent.destroy();
    });
  });
});

describe("Unix sockets", () => {
  let directory: string;
  before(() => (directory = mkdtempSync(join(tmpdir(), "sa-rpc-"))));
  after(() => rmSync(directory, { recursive: true }));
  const unix = (name: string) => ({ kind: "unix", path: join(directory, name) }) as const;

  test("serve both hosts, for the owner only, and are removed at the end", async () => {
    const [grpcAddress, httpAddress] = [unix("grpc"), unix("http")];
    await withHosts({ grpcAddress, httpAddress }, async (hosts) => {
      for (const target of [hosts.grpcTarget, hosts.httpTarget]) {
        assert.match(target, /^unix:\//);
        assert.equal(statSync(target.slice(5)).mode & 0o777, 0o600);
        const wire = grpcWire(target, target);
        await wire.call(createSession, createBytes({ userId: "u" }));
        wire.close();
      }
    });
    assert.equal(existsSync(grpcAddress.path) || existsSync(httpAddress.path), false);
  });

  test("that a killed process left behind are replaced", async () => {
    const [grpcAddress, httpAddress] = [unix("stale-grpc"), unix("stale-http")];
    for (const { path } of [grpcAddress, httpAddress]) {
      const script = `require("node:net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`;
      assert.throws(() => execFileSync(process.execPath, ["-e", script], { stdio: "ignore" }));
      assert.ok(statSync(path).isSocket());
    }
    await withHosts({ grpcAddress, httpAddress }, async (hosts) => {
      const wire = grpcWire("stale", hosts.grpcTarget);
      await wire.call(createSession, createBytes({ userId: "u" }));
      wire.close();
    });
  });

  test("that another process listens on, and paths that are not sockets, are refused and left alone", async () => {
    const path = join(directory, "busy");
    const other = createServer().listen(path);
    await once(other, "listening");
    await assert.rejects(startHosts({}, { grpcAddress: { kind: "unix", path } }), /is in use/);
    other.close();
    const file = join(directory, "file");
    writeFileSync(file, "kept");
    await assert.rejects(startHosts({}, { grpcAddress: { kind: "unix", path: file } }), /not a socket/);
    assert.equal(readFileSync(file, "utf8"), "kept");
  });
});

test("a connection over age gets a GOAWAY, and streams still open on it after the grace are cut off", async () => {
  await withHosts({ maxConnectionAgeMs: 100, maxConnectionAgeGraceMs: 300 }, async (hosts) => {
    const session = connectHttp2(`http://${hosts.grpcTarget}`);
    const headers = { ":method": "POST", "content-type": "application/grpc", te: "trailers" };
    const stream = session.request({ ...headers, ":path": pathOf(watchInvalidations) });
    stream.on("error", () => undefined).end(Buffer.alloc(5));
    const closed = once(stream, "close");
    const [code] = await once(session, "goaway");
    assert.equal(code, 0);
    await once(stream, "data");
    const startedMs = performance.now();
    await closed;
    const tookMs = performance.now() - startedMs;
    assert.ok(tookMs > 200 && tookMs < 2_000, `${tookMs} ms`);
    session.destroy();
  });
});

describe("the HTTP port", () => {
  let hosts: Hosts;
  before(async () => {
    const pages = { "/metrics": () => ({ status: 200, contentType: "text/plain", body: "up 1\n" }) };
    hosts = await startHosts(createProbe().implementation, { pages });
  });
  after(() => hosts.close());

  test("reports on /healthz that it is alive, and on /readyz whether it is ready", async () => {
    const get = async (path: string) => {
      const response = await fetch(hosts.httpUrl + path);
      return [response.status, await response.text()];
    };
    assert.deepEqual(await get("/healthz"), [200, "ok\n"]);
    assert.deepEqual(await get("/readyz"), [200, '{"ready":true,"reasons":[]}\n']);
    hosts.readiness.block("the store is out of reach");
    assert.deepEqual(await get("/readyz"), [503, '{"ready":false,"reasons":["the store is out of reach"]}\n']);
    assert.deepEqual(await get("/healthz?verbose"), [200, "ok\n"]);
    hosts.readiness.clear("the store is out of reach");
    assert.deepEqual(await get("/metrics"), [200, "up 1\n"]);
  });

  test("responds with 404 and the services, or with 415 and the content types to send", async () => {
    for (const path of ["/", "/session.v1.SessionService/Nope", "/../etc", "//x"]) {
      const response = await fetch(hosts.httpUrl + path);
      assert.equal(response.status, 404);
      const { services } = (await response.json()) as { services: string[] };
      assert.ok(services.includes("/session.v1.SessionService/"));
    }
    const response = await fetch(hosts.httpUrl + pathOf(createSession), { method: "POST", body: "user_id=eve" });
    assert.equal(response.status, 415);
    assert.match(await response.text(), /application\/json/);
  });

  const greet = async (...chunks: string[]): Promise<string> => {
    const socket = connect(hosts.http.address as { host: string; port: number }).setNoDelay(true);
    const chunksBack: Buffer[] = [];
    socket.on("data", (chunk: Buffer) => chunksBack.push(chunk));
    for (const chunk of chunks) await new Promise((resolve) => socket.write(chunk, resolve));
    await Promise.race([once(socket, "close"), until(() => chunksBack.length > 0)]);
    socket.destroy();
    return Buffer.concat(chunksBack).toString("latin1");
  };

  test("detects HTTP/1.1 and HTTP/2 however the first bytes arrive", async () => {
    const http1 = ["GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"];
    assert.match(await greet(...http1), /^HTTP\/1\.1 200 OK/);
    assert.match(await greet("G", "E", "T /healthz HTTP/1.1\r\nhost: x\r\n\r\n"), /^HTTP\/1\.1 200 OK/);
    const settings = "\0\0\0\x04\0\0\0\0\0";
    for (const greeting of [
      [`PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${settings}`],
      ["P", "R", "I * HTTP/2.0\r\n", `\r\nSM\r\n\r\n${settings}`],
    ]) {
      // The server's SETTINGS frame.
      assert.equal((await greet(...greeting))[3], "\x04");
    }
    const session = connectHttp2(hosts.httpUrl);
    const stream = session.request({ ":path": "/healthz" });
    const [headers] = (await once(stream, "response")) as [Record<string, unknown>];
    assert.equal(headers[":status"], 200);
    session.destroy();
  });

  test("survives bytes that are not HTTP, and requests without a path; serves any host, or none", async () => {
    assert.match(await greet("XYZ\r\n\r\n"), /^HTTP\/1\.1 400/);
    const path = pathOf(createSession);
    const body = "content-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    assert.match(await greet(`POST ${path} HTTP/1.0\r\n${body}`), /^HTTP\/1\.[01] 200/);
    assert.match(await greet(`POST ${path} HTTP/1.1\r\nhost: a b\r\n${body}`), /^HTTP\/1\.1 200/);
    assert.match(await greet(`POST ${path} HTTP/1.1\r\n${body}`), /^HTTP\/1\.1 400/);
    assert.match(await greet("GET http:// HTTP/1.1\r\nhost: x\r\n\r\n"), /^HTTP\/1\.1 404/);
    assert.equal((await fetch(`${hosts.httpUrl}/healthz`)).status, 200);
  });
});

describe("TLS", { skip: hasOpenssl() ? false : "openssl is not installed" }, () => {
  let directory: string;
  let tls: { cert: Buffer; key: Buffer };
  before(() => {
    directory = mkdtempSync(join(tmpdir(), "sa-tls-"));
    const files = ["-keyout", join(directory, "key"), "-out", join(directory, "cert")];
    const name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
    const args = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"];
    execFileSync("openssl", [...args, ...files, ...name], { stdio: "ignore" });
    tls = { cert: readFileSync(join(directory, "cert")), key: readFileSync(join(directory, "key")) };
  });
  after(() => rmSync(directory, { recursive: true }));

  test("serves both hosts, HTTP/1.1 and HTTP/2, and drains", async () => {
    await withHosts({ tls }, async (hosts) => {
      const creds = credentials.createSsl(tls.cert);
      for (const target of [hosts.grpcTarget, hosts.httpTarget]) {
        const wire = grpcWire(target, target, creds);
        await wire.call(createSession, createBytes({ userId: "u" }));
        wire.close();
      }
      for (const httpVersion of ["1.1", "2"] as const) {
        const nodeOptions = { ca: tls.cert };
        const baseUrl = `https://${hosts.httpTarget}`;
        const client = createClient(SessionService, createConnectTransport({ baseUrl, httpVersion, nodeOptions }));
        assert.equal((await client.createSession({ userId: "u" })).session?.userId, "u");
      }
      const startedMs = performance.now();
      await Promise.all([hosts.grpc.drain(60_000), hosts.http.drain(60_000)]);
      assert.ok(performance.now() - startedMs < 5_000);
    });
  });

  test("with a client CA refuses clients without its certificate", async () => {
    await withHosts({ tls: { ...tls, clientCa: tls.cert } }, async (hosts) => {
      for (const target of [hosts.grpcTarget, hosts.httpTarget]) {
        const stranger = grpcWire(target, target, credentials.createSsl(tls.cert));
        const bytes = createBytes({ userId: "u" });
        await assert.rejects(stranger.call(createSession, bytes), { code: "UNAVAILABLE" });
        stranger.close();
        const known = grpcWire(target, target, credentials.createSsl(tls.cert, tls.key, tls.cert));
        await known.call(createSession, bytes);
        known.close();
      }
    });
  });
});

function hasOpenssl(): boolean {
  try {
    execFileSync("openssl", ["version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
