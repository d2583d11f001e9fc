// The watch whose lease is renewed on its own stream, on both ports: what a checkpoint proves, the order of its requests, and
// what cannot end it.

import assert from "node:assert/strict";
import { after, before, describe, test, type TestContext } from "node:test";
import { createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { Client, credentials, Metadata, status } from "@grpc/grpc-js";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { WatchWithLeaseRequestSchema, WatchWithLeaseResponseSchema } from "../../gen/session/v1/watch_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { rounds } from "../helpers/rounds.ts";
import { createWatchClient, type WatchClient } from "../helpers/watch_client.ts";

const skip = redisServerMissing();
/** The longest clock of a request's body was 30 s once. */
const HELD_SECONDS = rounds({ quick: 3, all: 32, variable: "WATCH_HELD_SECONDS" });
const path = `/${SessionService.typeName}/${SessionService.method.watchWithLease.name}`;

let authorities: Authorities;
before(async () => {
  if (!skip) authorities = await startAuthorities({ instances: 2 });
});
after(() => authorities?.close());

const grpcAddress = (instance = 0) => authorities.servers[instance]!.addresses.grpc!;

function open(t: TestContext): WatchClient {
  const client = createWatchClient(grpcAddress());
  t.after(() => client.close());
  return client;
}

/** Every way to call the method that is HTTP/2. */
function transports(): Record<string, Transport> {
  const httpUrl = `http://${authorities.httpAddresses[0]}`;
  return {
    "the gRPC port": createGrpcTransport({ baseUrl: `http://${grpcAddress()}` }),
    "the HTTP port by gRPC": createGrpcTransport({ baseUrl: httpUrl }),
    "the HTTP port by Connect": createConnectTransport({ baseUrl: httpUrl, httpVersion: "2" }),
  };
}

/** The requests of one stream, sent when the test sends them. */
function requestQueue() {
  const queued: object[] = [];
  let wake: (() => void) | undefined;
  return {
    send(request: object): void {
      queued.push(request);
      wake?.();
    },
    async *[Symbol.asyncIterator]() {
      for (;;) {
        while (queued.length > 0) yield queued.shift()!;
        await new Promise<void>((resolve) => (wake = resolve));
      }
    },
  };
}

const renewal = (nonce: string) => ({ request: { case: "renewal", value: { nonce } } });
const OPEN = { request: { case: "open", value: {} } };

describe("WatchWithLease", { skip, concurrency: true }, () => {
  test("every change that was acknowledged before a renewal comes before its checkpoint, on both ports", async (t) => {
    for (const [name, transport] of Object.entries(transports())) {
      const requests = requestQueue();
      requests.send(OPEN);
      const caller = new AbortController();
      t.after(() => caller.abort());
      const stream = createClient(SessionService, transport).watchWithLease(requests as never, caller);
      const events = stream[Symbol.asyncIterator]();
      const next = async () => (await events.next()).value!.event;
      const opened = await next();
      assert.equal(opened.case, "opened", name);
      assert.equal(opened.case === "opened" && opened.value.lease?.seconds, 3n, name);
      for (let round = 0; round < 3; round++) {
        const { session } = await authorities.clients[1]!.createSession({ userId: "leased" });
        await authorities.clients[1]!.deleteSession({ sessionId: session!.sessionId });
        requests.send(renewal(`${name} ${round}`));
        const before: string[] = [];
        for (;;) {
          const event = await next();
          if (event.case === "invalidation") before.push(event.value.sessionId);
          if (event.case === "checkpoint" && event.value.nonce === `${name} ${round}`) break;
        }
        assert.ok(before.includes(session!.sessionId), `${name}: the checkpoint came before the change`);
      }
      caller.abort();
    }
  });

  test("a client that balances over two instances renews each time (cases/watch.md 3)", async (t) => {
    const target = `ipv4:${grpcAddress(0)},${grpcAddress(1)}`;
    const client = new Client(target, credentials.createInsecure(), {
      "grpc.service_config": JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] }),
    });
    t.after(() => client.close());
    for (let stream = 0; stream < 4; stream++) {
      const call = client.makeBidiStreamRequest<object, string | undefined>(
        path,
        (request) => Buffer.from(toBinary(WatchWithLeaseRequestSchema, create(WatchWithLeaseRequestSchema, request))),
        (bytes) => {
          const { event } = fromBinary(WatchWithLeaseResponseSchema, bytes);
          return event.case === "checkpoint" ? event.value.nonce : "";
        },
        new Metadata(),
      );
      call.on("error", () => undefined);
      call.write(OPEN);
      const expected = Array.from({ length: 6 }, (_, n) => `n${n}`);
      for (const nonce of expected) call.write(renewal(nonce));
      const left = new Set(expected);
      for await (const nonce of call) {
        left.delete(nonce as string);
        if (left.size === 0) break;
      }
      assert.equal(left.size, 0);
    }
  });

  test("requests out of order end the stream with INVALID_ARGUMENT", async (t) => {
    const stream = open(t).watch();
    await stream.opened();
    stream.send({ request: { case: "open", value: {} } });
    const second = await stream.ended;
    assert.deepEqual([second?.code, second?.fields], [status.INVALID_ARGUMENT, ["open"]]);

    const unset = open(t).watch();
    await unset.opened();
    unset.send({});
    assert.equal((await unset.ended)?.code, status.INVALID_ARGUMENT);

    for (const [name, transport] of Object.entries(transports())) {
      const requests = requestQueue();
      requests.send(renewal("first"));
      const stream = createClient(SessionService, transport).watchWithLease(requests as never);
      await assert.rejects(stream[Symbol.asyncIterator]().next(), /renewal: the first request opens the watch/, name);
    }
  });

  test("a stream goes on when its caller has closed its side", async (t) => {
    const stream = open(t).watch({ userIds: ["half"] });
    await stream.opened();
    stream.halfClose();
    const { session } = await authorities.clients[0]!.createSession({ userId: "half" });
    await authorities.clients[0]!.deleteSession({ sessionId: session!.sessionId });
    await stream.until((event) => event.case === "invalidation" && event.value.sessionId === session!.sessionId);
  });

  test("renewals are confirmed one by one, however many come at once", async (t) => {
    const stream = open(t).watch();
    await stream.opened();
    for (let n = 0; n < 200; n++) stream.renew(`burst-${n}`);
    await stream.until((event) => event.case === "checkpoint" && event.value.nonce === "burst-199", 10_000);
    const nonces = stream.record.events.flatMap(({ event }) =>
      event.case === "checkpoint" && event.value.nonce !== "" ? [event.value.nonce] : [],
    );
    assert.deepEqual(
      nonces,
      Array.from({ length: 200 }, (_, n) => `burst-${n}`),
    );
  });

  test("HTTP/1.1 cannot call it, and the response says so", async () => {
    for (const contentType of ["application/connect+json", "application/grpc-web+proto"]) {
      const response = await fetch(`http://${authorities.httpAddresses[0]}${path}`, {
        method: "POST",
        headers: { "content-type": contentType },
        body: "",
      });
      assert.equal(response.status, 505);
      assert.match(
        ((await response.json()) as { message: string }).message,
        /HTTP\/1\.1 cannot do: call it over HTTP\/2/,
      );
    }
  });

  test("WatchInvalidations has no lease", async () => {
    const client = createClient(SessionService, createGrpcTransport({ baseUrl: `http://${grpcAddress()}` }));
    for await (const { event } of client.watchInvalidations({})) {
      assert.ok(event.case === "opened" && event.value.lease === undefined && event.value.position !== "");
      break;
    }
  });

  test("no clock of a request's body ends it", { timeout: 60_000 }, async (t) => {
    const alive = Object.entries(transports()).map(async ([name, transport]) => {
      const requests = requestQueue();
      requests.send(OPEN);
      const caller = new AbortController();
      t.after(() => caller.abort());
      const renewing = setInterval(() => requests.send(renewal("again")), 1000);
      t.after(() => clearInterval(renewing));
      const startedMs = performance.now();
      for await (const _ of createClient(SessionService, transport).watchWithLease(requests as never, caller)) {
        if (performance.now() - startedMs > HELD_SECONDS * 1_000) return name;
      }
      return assert.fail(`${name}: the stream ended`);
    });
    assert.equal((await Promise.all(alive)).length, 3);
  });
});
