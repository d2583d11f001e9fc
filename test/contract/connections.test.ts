// HTTP/2 connections on both ports: silent ones end, and cancelled calls do not disturb the other calls of their connection.

import assert from "node:assert/strict";
import { once } from "node:events";
import type { ClientHttp2Session } from "node:http2";
import { connect as connectTcp } from "node:net";
import { describe, test, type TestContext } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Client, credentials, status } from "@grpc/grpc-js";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import {
  CreateSessionRequestSchema,
  CreateSessionResponseSchema,
  GetSessionRequestSchema,
} from "../../gen/session/v1/simple_sessions_pb.ts";
import type { ConnectionEnd } from "../../src/ops/connection_report.ts";
import type { SessionServiceImpl } from "../../src/service/handlers.ts";
import type { ConnectionLimits } from "../../src/transport/connections.ts";
import { connectRaw, grpcFrame, onMessages, openRpc, openWatch } from "../helpers/raw_stream.ts";
import { pathOf, startHosts } from "../helpers/rpc_hosts.ts";

const { createSession, getSession, watchInvalidations } = SessionService.method;
const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS = Buffer.of(0, 0, 0, 4, 0, 0, 0, 0, 0);
const CANCEL = 8;

const GET_BYTES = toBinary(GetSessionRequestSchema, create(GetSessionRequestSchema, { sessionId: "waits" }));
const CREATE_EVE = toBinary(CreateSessionRequestSchema, create(CreateSessionRequestSchema, { userId: "eve" }));

/** Watches send one message and stay open; getSession waits until it is released. */
function createImplementation() {
  const waiting: (() => void)[] = [];
  const implementation: SessionServiceImpl = {
    async createSession({ userId }) {
      return { session: { userId } };
    },
    async getSession() {
      await new Promise<void>((resolve) => void waiting.push(resolve));
      return { session: { userId: "released" } };
    },
    async *watchInvalidations(_, { signal }) {
      yield { event: { case: "checkpoint", value: {} } };
      await once(signal, "abort");
    },
  };
  return { implementation, waiting };
}

/** Runs on both ports; `ended` has the reasons for which connections were ended. */
async function onBothPorts(
  t: TestContext,
  limits: ConnectionLimits,
  run: (port: { target: string; ended: ConnectionEnd[]; waiting: (() => void)[] }) => Promise<void>,
): Promise<void> {
  const ended: ConnectionEnd[] = [];
  const { implementation, waiting } = createImplementation();
  const connectionLimits = { ...limits, onEnd: (reason: ConnectionEnd) => void ended.push(reason) };
  const hosts = await startHosts(implementation, { connectionLimits });
  t.after(() => hosts.close());
  for (const [name, target] of [
    ["the gRPC port", hosts.grpcTarget],
    ["the HTTP port", hosts.httpTarget],
  ] as const) {
    await t.test(name, async () => {
      ended.length = 0;
      await run({ target, ended, waiting });
    });
  }
}

/** Connects, sends bytes and then nothing; resolves when the server has closed the connection. */
async function sendAndWaitForClose(target: string, bytes: Buffer | string): Promise<void> {
  const [host, port] = target.split(":") as [string, string];
  const socket = connectTcp(Number(port), host);
  socket.on("error", () => undefined).resume();
  socket.write(bytes);
  await once(socket, "close");
}

describe("a connection", () => {
  test("that sends the preface and nothing else is closed", async (t) => {
    await onBothPorts(t, { settingsTimeoutMs: 20 }, async ({ target, ended }) => {
      await Promise.all(Array.from({ length: 100 }, () => sendAndWaitForClose(target, PREFACE)));
      assert.deepEqual(new Set(ended), new Set(["silent"]));
      assert.equal(ended.length, 100);
    });
  });

  test("that does not reply to pings is closed", async (t) => {
    await onBothPorts(t, { pingIntervalMs: 20 }, async ({ target, ended }) => {
      await sendAndWaitForClose(target, Buffer.concat([Buffer.from(PREFACE), EMPTY_SETTINGS]));
      assert.deepEqual(ended, ["silent"]);
    });
  });

  test("that replies to pings stays open without a call", async (t) => {
    await onBothPorts(t, { pingIntervalMs: 200, settingsTimeoutMs: 300 }, async ({ target, ended }) => {
      const session = await connectRaw(target);
      for (let pings = 0; pings < 4; pings++) await once(session, "ping");
      assert.equal(await createEve(session), "eve");
      assert.deepEqual(ended, []);
      session.destroy();
    });
  });
});

describe("cancelled calls", () => {
  test("at the rate of a gateway do not disturb the other calls of their connection", async (t) => {
    await onBothPorts(t, {}, async ({ target, ended }) => {
      const session = await connectRaw(target);
      let watchEnded = false;
      const opened = Promise.withResolvers<void>();
      const watch = openWatch(session, {}, () => opened.resolve());
      void watch.closed.then(() => (watchEnded = true));
      await opened.promise;
      // More than Node allows by default: 1,000 at once and 33 a second.
      for (let second = 0; second < 15; second++) {
        await Promise.all(Array.from({ length: 200 }, () => cancelledCall(session)));
        assert.equal(await createEve(session), "eve");
      }
      assert.equal(watchEnded, false);
      assert.deepEqual(ended, []);
      session.destroy();
      await watch.closed;
    });
  });

  test("above the limit end their connection: calls in flight finish, and new ones use another connection", async (t) => {
    const limits = { cancelRate: { count: 20, periodMs: 60_000 }, cancelGraceMs: 60_000 };
    await onBothPorts(t, limits, async ({ target, ended, waiting }) => {
      const client = new Client(target, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 });
      const inFlight = call(client, getSession, GET_BYTES);
      await until(() => waiting.length === 1);
      for (let count = 0; count < 21; count++) {
        const cancelled = call(client, getSession, GET_BYTES);
        await until(() => waiting.length === 2);
        waiting.pop();
        cancelled.cancel();
        await assert.rejects(cancelled.response, { code: status.CANCELLED });
      }
      await until(() => ended.length > 0);
      const response = await call(client, createSession, CREATE_EVE).response;
      assert.equal(fromBinary(CreateSessionResponseSchema, response).session?.userId, "eve");
      waiting.pop()!();
      await inFlight.response;
      assert.deepEqual(ended, ["cancelled_calls"]);
      client.close();
    });
  });

  test("above the limit end what is open after the grace with UNAVAILABLE", async (t) => {
    const limits = { cancelRate: { count: 20, periodMs: 60_000 }, cancelGraceMs: 20 };
    await onBothPorts(t, limits, async ({ target, ended }) => {
      const client = new Client(target, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 });
      const path = pathOf(watchInvalidations);
      const open = () => client.makeServerStreamRequest(path, asBuffer, asIs, Buffer.alloc(0));
      const watch = open();
      await once(watch, "data");
      const failed = once(watch, "error") as Promise<[{ code: number }]>;
      for (let count = 0; count < 21; count++) {
        const cancelled = open().on("error", () => undefined);
        await once(cancelled, "data");
        cancelled.cancel();
      }
      assert.equal((await failed)[0].code, status.UNAVAILABLE);
      assert.deepEqual(ended, ["cancelled_calls"]);
      client.close();
    });
  });

  test("of a client that closes its connection are not counted", async (t) => {
    await onBothPorts(t, { cancelRate: { count: 20, periodMs: 60_000 } }, async ({ target, ended }) => {
      const session = await connectRaw(target);
      const watches = Array.from({ length: 30 }, () => {
        const opened = Promise.withResolvers<void>();
        openWatch(session, {}, () => opened.resolve());
        return opened.promise;
      });
      await Promise.all(watches);
      // Without a GOAWAY, as when the client's process dies.
      session.socket.destroySoon();
      // The next connection is accepted after the other one has been closed.
      const next = await connectRaw(target);
      assert.equal(await createEve(next), "eve");
      next.destroy();
      assert.deepEqual(ended, []);
    });
  });
});

/** Opens a call by its headers, and resets it once the server has seen it. */
async function cancelledCall(session: ClientHttp2Session): Promise<void> {
  const stream = openRpc(session, createSession);
  stream.on("error", () => undefined);
  stream.close(CANCEL);
  await once(stream, "close");
}

async function createEve(session: ClientHttp2Session): Promise<string | undefined> {
  const stream = openRpc(session, createSession);
  const message = new Promise<Buffer>((resolve, reject) => {
    onMessages(stream, ([first]) => resolve(first!));
    stream.once("error", reject);
    stream.once("close", () => reject(new Error("closed without a response")));
  });
  stream.end(grpcFrame(CREATE_EVE));
  return fromBinary(CreateSessionResponseSchema, await message).session?.userId;
}

const asBuffer = (bytes: Uint8Array) => Buffer.from(bytes);
const asIs = (bytes: Buffer) => bytes;

function call(client: Client, method: typeof createSession | typeof getSession, request: Uint8Array) {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const made = client.makeUnaryRequest<Uint8Array, Buffer>(pathOf(method), asBuffer, asIs, request, (error, response) =>
    error ? reject(error) : resolve(response!),
  );
  return { response: promise, cancel: () => made.cancel() };
}

/** Lets the event loop turn until something holds; the test's own timeout is the limit. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve));
}
