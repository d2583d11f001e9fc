// Bulk validation, as the contract tells of it: order, one verdict for each question, and a stream that answers what it can.

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
type Question = { readonly entry: Entry; readonly userId: string | undefined };

let authorities: Authorities;
let client: AuthorityClient;
/** Of every kind, valid and not; what is to be answered. */
const questions: Question[] = [];
let large: Question;

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
    questions.push(
      { entry: byId(simple.session!.sessionId), userId },
      { entry: { ...byToken(secure.token), touch: true, ipAddress: "203.0.113.7" }, userId },
      // The id of a secure session opens nothing, nor does a token in an id's place.
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

function assertAnswers(results: readonly Result[], asked: readonly Question[]): void {
  assert.deepEqual(
    results.map(({ verdict, session }) => [verdict, session?.userId]),
    asked.map(({ userId }) => [userId === undefined ? Verdict.INVALID : Verdict.VALID, userId]),
  );
}

describe("BatchValidate", { skip }, () => {
  test("answers each question in its place, whatever the others are", async () => {
    const { results } = await client.batchValidate({ entries: questions.map(({ entry }) => entry) });
    assertAnswers(results, questions);
  });

  test("answers the same for messages that are read directly and for those that are decoded", async () => {
    for (const { entry, userId } of questions) {
      // One entry that has to be decoded makes the whole message be.
      const entries = [entry, { handle: { case: "sessionId" as const, value: "ü" } }];
      const [alone, decoded] = await Promise.all([
        client.batchValidate({ entries: [entry] }),
        client.batchValidate({ entries }),
      ]);
      assertAnswers(
        [alone.results[0]!, decoded.results[0]!],
        [
          { entry, userId },
          { entry, userId },
        ],
      );
    }
  });

  test("slides a session once for all who show it at the same time", async () => {
    const { token, session } = await client.createSecureSession({ userId: "busy" });
    const entry: Entry = { handle: { case: "token", value: token }, touch: true };
    await authorities.nextMs();
    const before = await scriptsRun();
    const { results } = await client.batchValidate({ entries: Array<Entry>(1000).fill(entry) });
    const run = (await scriptsRun()) - before;
    assert.ok(results.every(({ verdict }) => verdict === Verdict.VALID));
    const [slid, created] = [results[0]!.session!.lastAccessedAt!, session!.lastAccessedAt!];
    assert.ok(timestampMs(slid) > timestampMs(created), "it did not slide");
    // Those of the sweep are among them.
    assert.ok(run < 100, `${run} scripts were run`);
  });

  test("takes 1,000 questions, and neither none nor more", async () => {
    const asked = Array.from({ length: 1000 }, (_, i) => questions[i % questions.length]!);
    assertAnswers((await client.batchValidate({ entries: asked.map(({ entry }) => entry) })).results, asked);
    const tooMany = { entries: Array<Entry>(1001).fill(questions[0]!.entry) };
    for (const request of [tooMany, { entries: [] }]) {
      await assert.rejects(client.batchValidate(request), { code: status.INVALID_ARGUMENT, fields: ["entries"] });
    }
  });
});

/** How many scripts the store has run so far. */
async function scriptsRun(): Promise<number> {
  const statistics = String(await authorities.control.sendCommand(["INFO", "commandstats"]));
  return Number(/cmdstat_evalsha:calls=(\d+)/.exec(statistics)?.[1] ?? 0);
}

/** ValidateStream on grpc-js, as bytes. */
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
  test("answers a lone question at once, and the next one after it", async () => {
    const { stream, close } = openStream();
    for (const question of questions) {
      stream.write([question.entry]);
      const [results] = (await once(stream, "data")) as [Result[]];
      assertAnswers(results, [question]);
    }
    stream.end();
    await once(stream.resume(), "end");
    close();
  });

  test("keeps the order over thousands of messages, ends after the last answer, and puts answers together", async () => {
    const { stream, close } = openStream();
    const asked = Array.from({ length: 5000 }, (_, i) => questions[(i * 7) % questions.length]!);
    const results: Result[] = [];
    let messages = 0;
    stream.on("data", (some: Result[]) => {
      messages++;
      results.push(...some);
    });
    for (const { entry } of asked) stream.write([entry]);
    stream.end();
    await once(stream, "end");
    assertAnswers(results, asked);
    assert.ok(messages < asked.length / 2, `${messages} messages`);
    close();
  });

  test("works on connect's host, too", async () => {
    const baseUrl = `http://${authorities.httpAddresses[0]}`;
    const connect = createClient(SessionService, createGrpcTransport({ baseUrl }));
    async function* messages() {
      for (const { entry } of questions) yield { entries: [entry] };
    }
    const results: Result[] = [];
    for await (const message of connect.validateStream(messages())) results.push(...message.results);
    assertAnswers(results, questions);
  });

  test("a message that breaks a rule ends the stream, after the answers before it", async () => {
    const { stream, close } = openStream();
    const results: Result[] = [];
    stream.on("data", (some: Result[]) => results.push(...some));
    for (const { entry } of questions) stream.write([entry]);
    stream.write([]);
    for (const { entry } of questions) stream.write([entry]);
    const [error] = (await once(stream, "error")) as [ServiceError];
    assert.equal(error.code, status.INVALID_ARGUMENT);
    assertAnswers(results, questions);
    close();
  });

  test("a caller that does not read is not read from, and then gets every answer", async () => {
    const { stream, close } = openStream();
    stream.pause();
    const asked = 20_000;
    let taken = 0;
    for (let i = 0; i < asked; i++) stream.write([large.entry], () => taken++);
    stream.end();
    await stillness(() => taken);
    // Else the service holds as much as it would have answered.
    assert.ok(taken < asked / 2, `${taken} questions were taken from a caller that reads no answers`);
    let answered = 0;
    for await (const results of stream) answered += (results as Result[]).length;
    assert.equal(answered, asked);
    close();
  });

  test("tells a caller that the store is gone", async () => {
    const own = await startAuthorities();
    try {
      const { session } = await own.clients[0]!.createSession({ userId: "lost" });
      const baseUrl = `http://${own.servers[0]!.addresses.grpc}`;
      const connect = createClient(SessionService, createGrpcTransport({ baseUrl }));
      const handle = { case: "sessionId" as const, value: session!.sessionId };
      await own.redis.kill();
      await assert.rejects(
        async () => {
          const asked = [{ entries: [{ handle }] }];
          for await (const _ of connect.validateStream(eachOf(asked))) assert.fail("it was answered");
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
async function stillness(count: () => number): Promise<void> {
  for (let last = -1, turns = 0; turns < 2000; turns++) {
    if (count() !== last) turns = 0;
    last = count();
    await new Promise((resolve) => setImmediate(resolve));
  }
}
