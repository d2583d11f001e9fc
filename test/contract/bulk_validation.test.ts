// Bulk validation, as the contract describes it: order, one result for each entry, and streams with flow control.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { create, fromBinary, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, createClient, type ConnectError } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Client, credentials, status, type ServiceError } from "@grpc/grpc-js";
import { ValidateStreamRequestSchema, ValidateStreamResponseSchema } from "../../gen/session/v1/bulk_validation_pb.ts";
import { Verdict } from "../../gen/session/v1/session_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import type { AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

const skip = redisServerMissing();
const DATA_BYTES = 5000;

type Entry = NonNullable<MessageInitShape<typeof ValidateStreamRequestSchema>["entries"]>[number];
/** An entry, and the user of the session that it must validate; undefined if it must be INVALID. */
type Case = { readonly entry: Entry; readonly userId: string | undefined };

let authorities: Authorities;
let client: AuthorityClient;
/** Entries of every kind, valid and not. */
const cases: Case[] = [];
let large: Case;

before(async () => {
  if (skip) return;
  authorities = await startAuthorities({ touchIntervalMs: 0 });
  client = authorities.clients[0]!;
  const byId = (value: string): Entry => ({ handle: { case: "sessionId", value } });
  const byToken = (value: string): Entry => ({ handle: { case: "token", value } });
  for (let i = 0; i < 20; i++) {
    const userId = `user ${i}`;
    const [simple, secure, gone] = await Promise.all([
      client.createSession({ userId }),
      client.createSecureSession({ userId, data: { i } }),
      client.createSecureSession({ userId }),
    ]);
    await client.revokeToken({ token: gone.token });
    cases.push(
      { entry: byId(simple.session!.sessionId), userId },
      { entry: { ...byToken(secure.token), touch: true, ipAddress: "203.0.113.7" }, userId },
      // Neither the id of a secure session nor a token in place of an id is valid.
      { entry: byId(secure.session!.sessionId), userId: undefined },
      { entry: byId(secure.token), userId: undefined },
      { entry: byToken(gone.token), userId: undefined },
      { entry: byToken("x".repeat(200)), userId: undefined },
      { entry: byToken("ü"), userId: undefined },
      { entry: {}, userId: undefined },
    );
  }
  const data = { text: "x".repeat(DATA_BYTES) };
  const { token } = await client.createSecureSession({ userId: "large", data });
  large = { entry: byToken(token), userId: "large" };
});
after(async () => {
  if (skip) return;
  await authorities.assertStoreSound();
  await authorities.close();
});

type Result = { readonly verdict: Verdict; readonly session?: { readonly userId: string } };

function assertResults(results: readonly Result[], expected: readonly Case[]): void {
  assert.deepEqual(
    results.map(({ verdict, session }) => [verdict, session?.userId]),
    expected.map(({ userId }) => [userId === undefined ? Verdict.INVALID : Verdict.VALID, userId]),
  );
}

describe("BatchValidate", { skip }, () => {
  test("returns a result for each entry in its place, whatever the others are", async () => {
    const { results } = await client.batchValidate({ entries: cases.map(({ entry }) => entry) });
    assertResults(results, cases);
  });

  test("returns the same results by the encoded handler and by the handler", async () => {
    const connect = createClient(
      SessionService,
      createGrpcTransport({ baseUrl: `http://${authorities.httpAddresses[0]}` }),
    );
    for (const each of cases) {
      const request = { entries: [each.entry] };
      // The gRPC host calls the encoded handler, connect's host the handler.
      const [encoded, plain] = await Promise.all([client.batchValidate(request), connect.batchValidate(request)]);
      assertResults([...encoded.results, ...plain.results], [each, each]);
    }
  });

  test("slides a session once for all entries that name it", async () => {
    const { token, session } = await client.createSecureSession({ userId: "busy" });
    const entry: Entry = { handle: { case: "token", value: token }, touch: true };
    await authorities.nextMs();
    const before = await scriptsRun();
    const { results } = await client.batchValidate({ entries: Array<Entry>(1000).fill(entry) });
    const run = (await scriptsRun()) - before;
    assert.ok(results.every(({ verdict }) => verdict === Verdict.VALID));
    const [slid, created] = [results[0]!.session!.lastAccessTime!, session!.lastAccessTime!];
    assert.ok(timestampMs(slid) > timestampMs(created), "it did not slide");
    // The count includes the scripts of the sweep.
    assert.ok(run < 100, `${run} scripts were run`);
  });

  test("accepts 1 to 1,000 entries", async () => {
    const thousand = Array.from({ length: 1000 }, (_, i) => cases[i % cases.length]!);
    assertResults((await client.batchValidate({ entries: thousand.map(({ entry }) => entry) })).results, thousand);
    const tooMany = { entries: Array<Entry>(1001).fill(cases[0]!.entry) };
    for (const request of [tooMany, { entries: [] }]) {
      await assert.rejects(client.batchValidate(request), { code: status.INVALID_ARGUMENT, fields: ["entries"] });
    }
  });
});

/** Returns the number of scripts that the store has run so far. */
async function scriptsRun(): Promise<number> {
  const statistics = String(await authorities.control.sendCommand(["INFO", "commandstats"]));
  return Number(/cmdstat_evalsha:calls=(\d+)/.exec(statistics)?.[1] ?? 0);
}

/** Opens a ValidateStream on the gRPC host. */
function openStream() {
  const channel = new Client(authorities.servers[0]!.addresses.grpc!, credentials.createInsecure());
  const { name } = SessionService.method.validateStream;
  const stream = channel.makeBidiStreamRequest<Entry[], Result[]>(
    `/${SessionService.typeName}/${name}`,
    (entries) => Buffer.from(toBinary(ValidateStreamRequestSchema, create(ValidateStreamRequestSchema, { entries }))),
    (bytes) => fromBinary(ValidateStreamResponseSchema, bytes).results,
  );
  return { stream, close: () => channel.close() };
}

describe("ValidateStream", { skip }, () => {
  test("responds to a single entry at once, and to the next one after it", async () => {
    const { stream, close } = openStream();
    for (const each of cases) {
      stream.write([each.entry]);
      const [results] = (await once(stream, "data")) as [Result[]];
      assertResults(results, [each]);
    }
    stream.end();
    await once(stream.resume(), "end");
    close();
  });

  test("keeps the order over thousands of requests, ends after the last result, and joins results", async () => {
    const { stream, close } = openStream();
    const sent = Array.from({ length: 5000 }, (_, i) => cases[(i * 7) % cases.length]!);
    const results: Result[] = [];
    let messages = 0;
    stream.on("data", (some: Result[]) => {
      messages++;
      results.push(...some);
    });
    for (const { entry } of sent) stream.write([entry]);
    stream.end();
    await once(stream, "end");
    assertResults(results, sent);
    assert.ok(messages < sent.length / 2, `${messages} responses`);
    close();
  });

  test("works on connect's host", async () => {
    const baseUrl = `http://${authorities.httpAddresses[0]}`;
    const connect = createClient(SessionService, createGrpcTransport({ baseUrl }));
    async function* messages() {
      for (const { entry } of cases) yield { entries: [entry] };
    }
    const results: Result[] = [];
    for await (const message of connect.validateStream(messages())) results.push(...message.results);
    assertResults(results, cases);
  });

  test("a request that breaks a rule ends the stream, after the results before it", async () => {
    const { stream, close } = openStream();
    const results: Result[] = [];
    stream.on("data", (some: Result[]) => results.push(...some));
    for (const { entry } of cases) stream.write([entry]);
    stream.write([]);
    for (const { entry } of cases) stream.write([entry]);
    const [error] = (await once(stream, "error")) as [ServiceError];
    assert.equal(error.code, status.INVALID_ARGUMENT);
    assertResults(results, cases);
    close();
  });

  test("a caller that does not read is held back, and then receives every result", async () => {
    const { stream, close } = openStream();
    stream.pause();
    const sent = 20_000;
    let accepted = 0;
    for (let i = 0; i < sent; i++) stream.write([large.entry], () => accepted++);
    stream.end();
    await untilUnchanged(() => accepted);
    // Otherwise the service would hold all results in memory.
    assert.ok(accepted < sent / 2, `${accepted} entries were accepted from a caller that does not read`);
    let received = 0;
    for await (const results of stream) received += (results as Result[]).length;
    assert.equal(received, sent);
    close();
  });

  test("ends with UNAVAILABLE when the store is gone", async () => {
    const own = await startAuthorities();
    try {
      const { session } = await own.clients[0]!.createSession({ userId: "lost" });
      const baseUrl = `http://${own.servers[0]!.addresses.grpc}`;
      const connect = createClient(SessionService, createGrpcTransport({ baseUrl }));
      const handle = { case: "sessionId" as const, value: session!.sessionId };
      await own.redis.kill();
      await assert.rejects(
        async () => {
          const requests = [{ entries: [{ handle }] }];
          for await (const _ of connect.validateStream(eachOf(requests))) assert.fail("a result was returned");
        },
        (error: ConnectError) => error.code === Code.Unavailable,
      );
    } finally {
      await own.close();
    }
  });
});

async function* eachOf<T>(values: readonly T[]): AsyncIterable<T> {
  yield* values;
}

/** Resolves once the count has stayed the same for many turns of the event loop. */
async function untilUnchanged(count: () => number): Promise<void> {
  for (let last = -1, turns = 0; turns < 2000; turns++) {
    if (count() !== last) turns = 0;
    last = count();
    await new Promise((resolve) => setImmediate(resolve));
  }
}
