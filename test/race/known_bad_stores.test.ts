// Every naive design is flagged by the race that is about it, all of them within a minute: the race suite can see what it
// is there for. Those that break by interleaving pass it one call at a time, so it is the race that is seen.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createClient, type RedisClientType } from "redis";
import { redisServerMissing, startRedisServer, type RedisServer } from "../helpers/redis_server.ts";
import { copyAndDelete } from "../known-bad/stores/copy_and_delete.ts";
import { delThenPublish } from "../known-bad/stores/del_then_publish.ts";
import { deviceMapWithoutOwner } from "../known-bad/stores/device_map_without_owner.ts";
import { getThenSet } from "../known-bad/stores/get_then_set.ts";
import { hsetOnDeadHash } from "../known-bad/stores/hset_on_dead_hash.ts";
import { tokenRevokedById } from "../known-bad/stores/revoke_without_proof.ts";
import { saddAfterSet } from "../known-bad/stores/sadd_after_set.ts";
import { watchOnSharedConnection } from "../known-bad/stores/watch_on_shared_connection.ts";
import { inTurn } from "./subject.ts";
import * as suite from "./suite.ts";

/** A bad design that survives so many rounds is not flagged. */
const ROUNDS = 20_000;
const ROUNDS_ONE_BY_ONE = 200;
const ALL_WITHIN_MS = 60_000;
const skip = redisServerMissing();

let server: RedisServer;
let databases = 0;
let tookMs = 0;

before(async () => {
  if (!skip) server = await startRedisServer({ socket: true, args: ["--databases", "64"] });
});
after(async () => {
  if (!skip) await server.stop();
});

type Run = (redis: () => RedisClientType, subscriber: RedisClientType) => Promise<void>;

/** With connections of two processes that write and of one that listens, to a database that no other test uses. */
async function onOwnDatabase(run: Run): Promise<void> {
  const database = databases++;
  const clients = await Promise.all(Array.from({ length: 3 }, () => connect(database)));
  try {
    await run(inTurn(clients.slice(0, 2)), clients[2]!);
  } finally {
    for (const client of clients) client.destroy();
  }
}

async function connect(database: number): Promise<RedisClientType> {
  const client: RedisClientType = createClient({ socket: { path: server.socketPath!, tls: false }, database });
  client.on("error", () => undefined);
  await client.connect();
  return client;
}

/** `shows` is what the race must say; any other failure is not a finding. */
function flagged(design: string, shows: RegExp, run: Run): void {
  test(`${design} is flagged`, { skip }, async (t) => {
    const startedMs = performance.now();
    const error: unknown = await onOwnDatabase(run).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    const flaggedMs = performance.now() - startedMs;
    tookMs += flaggedMs;
    assert.ok(error instanceof Error, `not flagged in ${ROUNDS} rounds`);
    assert.ok(error.cause instanceof assert.AssertionError, error);
    assert.match(error.message, shows);
    t.diagnostic(`${flaggedMs.toFixed(0)} ms: ${error.message.split("\n")[0]}`);
  });
}

function soundOneByOne(design: string, run: Run): void {
  test(`${design} passes one call at a time`, { skip }, () => onOwnDatabase(run));
}

/** The same subject, none of whose calls begins before the one before it has ended. */
function oneByOne<S extends object>(subject: S): S {
  let last: Promise<unknown> = Promise.resolve();
  const queued = Object.entries(subject).map(([name, method]) => {
    const call = (...args: unknown[]) => (last = last.catch(() => undefined).then(() => method(...args)));
    return [name, call];
  });
  return Object.fromEntries(queued) as S;
}

flagged("GET-then-SET refresh, by an access", /alive after it was ended/, (redis) =>
  suite.slideAgainstDelete(getThenSet(redis), ROUNDS),
);
flagged("GET-then-SET refresh, by a validation", /VALID after the revoke|alive after it was ended/, (redis) =>
  suite.revokeAgainstValidate(getThenSet(redis), ROUNDS),
);
soundOneByOne("GET-then-SET refresh", (redis) =>
  suite.slideAgainstDelete(oneByOne(getThenSet(redis)), ROUNDS_ONE_BY_ONE),
);

flagged("SADD after SET", /alive that no list shows/, (redis) =>
  suite.revokeAllAgainstCreate(saddAfterSet(redis), ROUNDS),
);
soundOneByOne("SADD after SET", (redis) =>
  suite.revokeAllAgainstCreate(oneByOne(saddAfterSet(redis)), ROUNDS_ONE_BY_ONE),
);

flagged("WATCH on a shared connection", /under a limit of 3/, (redis) =>
  suite.createAgainstLimit(watchOnSharedConnection(redis), ROUNDS),
);
soundOneByOne("WATCH on a shared connection", (redis) =>
  suite.createAgainstLimit(oneByOne(watchOnSharedConnection(redis)), ROUNDS_ONE_BY_ONE),
);

flagged("HSET on a dead hash", /brought a key back/, (redis) =>
  suite.fieldWriteAgainstEnd(hsetOnDeadHash(redis), ROUNDS),
);
soundOneByOne("HSET on a dead hash", (redis) =>
  suite.fieldWriteAgainstEnd(oneByOne(hsetOnDeadHash(redis)), ROUNDS_ONE_BY_ONE),
);

flagged("a device map without owner, by two users", /shared device/, (redis) =>
  suite.twoUsersOnOneDevice(deviceMapWithoutOwner(redis), ROUNDS),
);
flagged("a device map without owner, by one user", /sessions are alive on one device/, (redis) =>
  suite.deviceLoginAgainstDeviceLogin(deviceMapWithoutOwner(redis), ROUNDS),
);
soundOneByOne("a device map without owner, by one user,", (redis) =>
  suite.deviceLoginAgainstDeviceLogin(oneByOne(deviceMapWithoutOwner(redis)), ROUNDS_ONE_BY_ONE),
);

flagged("revoke without proof", /a forged token ended the session/, (redis) =>
  suite.revokeWithoutProof(tokenRevokedById(redis), ROUNDS),
);
flagged("rotation that compares and then writes", /rotations won/, (redis) =>
  suite.rotateAgainstRotate(tokenRevokedById(redis), ROUNDS),
);
soundOneByOne("rotation that compares and then writes", (redis) =>
  suite.rotateAgainstRotate(oneByOne(tokenRevokedById(redis)), ROUNDS_ONE_BY_ONE),
);

flagged("regenerate by copy and delete", /regenerations won/, (redis) =>
  suite.regenerateAgainstRegenerate(copyAndDelete(redis), ROUNDS),
);
soundOneByOne("regenerate by copy and delete", (redis) =>
  suite.regenerateAgainstRegenerate(oneByOne(copyAndDelete(redis)), ROUNDS_ONE_BY_ONE),
);

flagged("DEL then PUBLISH", /ended and nobody was told/, async (redis, subscriber) =>
  suite.endAgainstFeed(await delThenPublish(redis, subscriber), ROUNDS),
);

test("all of them are flagged within a minute", { skip }, (t) => {
  t.diagnostic(`${tookMs.toFixed(0)} ms`);
  assert.ok(tookMs < ALL_WITHIN_MS, `it took ${tookMs.toFixed(0)} ms`);
});
