// Requests that arrive slowly, incompletely, or without a credential, on both ports: none of them is waited for or kept.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { ClientHttp2Session, ClientHttp2Stream } from "node:http2";
import { connect as connectTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { create, toBinary, type DescMethod } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { status } from "@grpc/grpc-js";
import pino from "pino";
import { Verdict } from "../../gen/session/v1/session_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { GetSessionRequestSchema } from "../../gen/session/v1/simple_sessions_pb.ts";
import { createAuthentication, type Authentication } from "../../src/auth/authentication.ts";
import type { FinishedCall } from "../../src/rpc/call_handling.ts";
import type { EncodedHandlers, SessionServiceImpl } from "../../src/service/handlers.ts";
import { connectRaw, grpcFrame, openRpc } from "../helpers/raw_stream.ts";
import { pathOf, startHosts, type Hosts } from "../helpers/rpc_hosts.ts";

const { createSession, getSession, validateSession, validateStream, watchInvalidations } = SessionService.method;
/** A method of the fast path, one of grpc-js, and streams. */
const UNARY = [validateSession, createSession];
const WITH_ONE_REQUEST = [...UNARY, watchInvalidations];
const EVERY_KIND = [...WITH_ONE_REQUEST, validateStream];

const implementation: SessionServiceImpl = {
  async createSession({ userId }) {
    return { session: { userId } };
  },
  validateSession: async () => ({ verdict: Verdict.INVALID }),
  getSession: () => new Promise(() => undefined),
  async *watchInvalidations() {
    yield {};
  },
  async *validateStream(requests) {
    for await (const { entries } of requests) yield { results: entries.map(() => ({ verdict: Verdict.INVALID })) };
  },
};
const encodedHandlers: EncodedHandlers = { validateSession: () => undefined };

type Ended = { readonly grpcStatus: unknown; readonly httpStatus: unknown; readonly resetCode: number };

/** Resolves when the server has ended the stream. */
async function endOf(stream: ClientHttp2Stream): Promise<Ended> {
  let [grpcStatus, httpStatus]: unknown[] = [];
  const read = (headers: Record<string, unknown>) => {
    grpcStatus ??= headers["grpc-status"];
    httpStatus ??= headers[":status"];
  };
  stream.on("response", read).on("trailers", read);
  stream.on("error", () => undefined).resume();
  await once(stream, "close");
  return { grpcStatus, httpStatus, resetCode: stream.rstCode };
}

describe("a call without a valid credential is answered when its headers arrive, and reset", () => {
  let hosts: Hosts;
  let authentication: Authentication;
  let directory: string;
  const finished: FinishedCall[] = [];
  before(async () => {
    directory = mkdtempSync(join(tmpdir(), "sa-limits-"));
    const keysFile = join(directory, "keys.json");
    const sha256 = createHash("sha256").update("the-key").digest("hex");
    writeFileSync(keysFile, JSON.stringify({ keys: [{ name: "k", tenant: "t", sha256, scopes: ["read"] }] }));
    authentication = createAuthentication({ keysFile, logger: pino({ level: "silent" }) });
    hosts = await startHosts(implementation, {
      encodedHandlers,
      authenticate: authentication.authenticate,
      observers: [(call) => void finished.push(call)],
    });
  });
  after(async () => {
    authentication.close();
    await hosts.close();
    rmSync(directory, { recursive: true });
  });

  for (const method of EVERY_KIND) {
    for (const bytes of [0, 100]) {
      test(`${method.name}, after ${bytes} bytes of its request`, async () => {
        for (const target of [hosts.grpcTarget, hosts.httpTarget]) {
          finished.length = 0;
          const session = await connectRaw(target);
          const stream = openRpc(session, method, { authorization: "Bearer wrong" });
          if (bytes > 0) stream.write(grpcFrame(Buffer.alloc(1_000)).subarray(0, bytes));
          const { grpcStatus, resetCode } = await endOf(stream);
          assert.deepEqual([grpcStatus, resetCode], [String(status.UNAUTHENTICATED), 0], target);
          assert.deepEqual(
            finished.map((call) => call.failure?.reason),
            ["CREDENTIAL_INVALID"],
          );
          session.destroy();
        }
      });
    }
  }

  test("also if only its scope is missing", async () => {
    for (const target of [hosts.grpcTarget, hosts.httpTarget]) {
      const session = await connectRaw(target);
      const stream = openRpc(session, createSession, { authorization: "Bearer the-key" });
      assert.equal((await endOf(stream)).grpcStatus, String(status.PERMISSION_DENIED));
      session.destroy();
    }
  });

  test("over Connect and gRPC-Web, HTTP/2 and HTTP/1.1", async () => {
    const session = await connectRaw(hosts.httpTarget);
    const json = await endOf(openRpc(session, createSession, { "content-type": "application/json" }));
    assert.deepEqual([json.httpStatus, json.resetCode], [401, 0]);
    const web = await endOf(openRpc(session, createSession, { "content-type": "application/grpc-web+proto" }));
    assert.deepEqual([web.httpStatus, web.resetCode], [200, 0]);
    session.destroy();
    const head = `POST ${pathOf(createSession)} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n`;
    assert.match(await firstBytes(hosts, `${head}content-length: 100\r\n\r\n{`), /^HTTP\/1\.1 401/);
  });
});

describe("a request that does not arrive completely ends its call within the time for requests", () => {
  let hosts: Hosts;
  before(async () => (hosts = await startHosts(implementation, { encodedHandlers, requestTimeoutMs: 100 })));
  after(() => hosts.close());

  for (const method of WITH_ONE_REQUEST) {
    for (const bytes of [0, 3, 100]) {
      test(`${method.name}, after ${bytes} bytes`, async () => {
        for (const target of [hosts.grpcTarget, hosts.httpTarget]) {
          const session = await connectRaw(target);
          const stream = openRpc(session, method);
          if (bytes > 0) stream.write(grpcFrame(Buffer.alloc(1_000)).subarray(0, bytes));
          const { grpcStatus, resetCode } = await endOf(stream);
          assert.deepEqual([grpcStatus, resetCode], [String(status.DEADLINE_EXCEEDED), 0], target);
          session.destroy();
        }
      });
    }
  }

  test("over Connect, HTTP/2 and HTTP/1.1", async () => {
    const session = await connectRaw(hosts.httpTarget);
    const stream = openRpc(session, createSession, { "content-type": "application/json" });
    stream.write("{");
    const { httpStatus, resetCode } = await endOf(stream);
    assert.deepEqual([httpStatus, resetCode], [504, 0]);
    session.destroy();
    const head = `POST ${pathOf(createSession)} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n`;
    assert.match(await firstBytes(hosts, `${head}content-length: 100\r\n\r\n{`), /^HTTP\/1\.1 504/);
  });

  test("but a bidirectional stream may be open for longer", async () => {
    const slow = toBinary(GetSessionRequestSchema, create(GetSessionRequestSchema, { sessionId: "never" }));
    for (const transport of [
      createGrpcTransport({ baseUrl: `http://${hosts.grpcTarget}` }),
      createGrpcTransport({ baseUrl: hosts.httpUrl }),
      createConnectTransport({ baseUrl: hosts.httpUrl, httpVersion: "2" }),
    ]) {
      async function* requests() {
        yield { entries: [{}] };
        // Each of these calls takes as long as a request may.
        for (let calls = 0; calls < 3; calls++) {
          const session = await connectRaw(hosts.grpcTarget);
          const stream = openRpc(session, getSession);
          stream.end(grpcFrame(slow));
          assert.equal((await endOf(stream)).grpcStatus, String(status.UNAVAILABLE));
          session.destroy();
        }
        yield { entries: [{}, {}] };
      }
      const counts: number[] = [];
      for await (const { results } of createClient(SessionService, transport).validateStream(requests())) {
        counts.push(results.length);
      }
      assert.deepEqual(counts, [1, 2]);
    }
  });
});

describe("incomplete requests", () => {
  let hosts: Hosts;
  before(async () => (hosts = await startHosts(implementation, { encodedHandlers, requestTimeoutMs: 60_000 })));
  after(() => hosts.close());

  const HELD = grpcFrame(Buffer.alloc(250_000)).subarray(0, 240_000);

  for (const method of [...UNARY, validateStream]) {
    test(`of ${method.name}: more than 16 MiB on a connection are RESOURCE_EXHAUSTED, and others are served`, async () => {
      for (const target of [hosts.grpcTarget, hosts.httpTarget]) {
        const session = await connectRaw(target);
        const refused = Array.from({ length: 100 }, () => hold(session, method));
        const { grpcStatus, resetCode } = await Promise.any(refused);
        // A stream whose response has begun cannot be answered: it is reset with ENHANCE_YOUR_CALM.
        if (grpcStatus !== undefined) assert.equal(grpcStatus, String(status.RESOURCE_EXHAUSTED), target);
        else assert.equal(resetCode, 11);
        const other = await connectRaw(target);
        const stream = openRpc(other, createSession);
        stream.end(grpcFrame(Buffer.from([10, 1, 101])));
        assert.equal((await endOf(stream)).grpcStatus, "0");
        other.destroy();
        session.destroy();
        await Promise.allSettled(refused);
      }
    });
  }

  async function hold(session: ClientHttp2Session, method: DescMethod): Promise<Ended> {
    const stream = openRpc(session, method);
    stream.write(HELD);
    return await endOf(stream);
  }

  test("that come byte by byte are served", async () => {
    for (const method of EVERY_KIND) {
      for (const target of [hosts.grpcTarget, hosts.httpTarget]) {
        const session = await connectRaw(target);
        const stream = openRpc(session, method);
        const message = method === validateStream ? Buffer.from([10, 0]) : Buffer.from([10, 1, 101]);
        for (const byte of grpcFrame(message)) {
          await new Promise((resolve) => stream.write(Buffer.of(byte), resolve));
        }
        stream.end();
        assert.equal((await endOf(stream)).grpcStatus, "0", `${method.name} ${target}`);
        session.destroy();
      }
    }
  });
});

/** Sends bytes over HTTP/1.1 and returns the first that come back. */
async function firstBytes(hosts: Hosts, bytes: string): Promise<string> {
  const [host, port] = hosts.httpTarget.split(":") as [string, string];
  const socket = connectTcp(Number(port), host);
  socket.write(bytes);
  const [chunk] = (await once(socket, "data")) as [Buffer];
  socket.destroy();
  return chunk.toString("latin1");
}
