// The race suite detects every known-bad store, all of them within a minute. A store that breaks by interleaving passes when
// its calls run one at a time, so the suite detects the race and nothing else.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createClient, type RedisClientType } from "redis";
import { redisServerMissing, startRedisServer, type RedisServer } from "../helpers/redis_server.ts";
import { copyAndDelete } from "../known-bad/stores/copy_and_delete.ts";
import { delThenPublish } from "../known-bad/stores/del_then_publish.ts";
import { deviceMapWithoutOwner } from "../known-bad/stores/device_map_without_owner.ts";
import { getThenSet } from "../known-bad/stores/get_then_set.ts";
import { hsetOnDeadHash } from "../known-bad/stores/hset_on_dead_hash.ts";
import { tokenRevokedById } from "../known-bad/stores/revoke_without_secret.ts";
import { saddAfterSet } from "../known-bad/stores/sadd_after_set.ts";
import { watchOnSharedConnection } from "../known-bad/stores/watch_on_shared_connection.ts";
import { inTurn } from "./subject.ts";
import * as suite from "./suite.ts";

/** A bad design that survives this many rounds counts as not detected. */
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

/** Runs with two connections that write and one that subscribes, on a database that no other test uses. */
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

/** Expects the race to fail with a message that matches `message`. Any other failure fails the test. */
function detected(design: string, message: RegExp, run: Run): void {
  test(`${design} is detected`, { skip }, async (t) => {
    const startedMs = performance.now();
    const error: unknown = await onOwnDatabase(run).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    const detectedMs = performance.now() - startedMs;
    tookMs += detectedMs;
    assert.ok(error instanceof Error, `not detected in ${ROUNDS} rounds`);
    assert.ok(error.cause instanceof assert.AssertionError, error);
    assert.match(error.message, message);
    t.diagnostic(`${detectedMs.toFixed(0)} ms: ${error.message.split("\n")[0]}`);
  });
}

function passesOneByOne(design: string, run: Run): void {
  test(`${design} passes one call at a time`, { skip }, () => onOwnDatabase(run));
}

/** Returns the same subject with its calls queued: each starts when the one before it has ended. */
function oneByOne<S extends object>(subject: S): S {
  let last: Promise<unknown> = Promise.resolve();
  const queued = Object.entries(subject).map(([name, method]) => {
    const call = (...args: unknown[]) => (last = last.catch(() => undefined).then(() => method(...args)));
    return [name, call];
  });
  return Object.fromEntries(queued) as S;
}

detected("GET-then-SET refresh, by an access", /alive after its end/, (redis) =>
  suite.slideAgainstDelete(getThenSet(redis), ROUNDS),
);
detected("GET-then-SET refresh, by a validation", /valid after the revoke|alive after its end/, (redis) =>
  suite.revokeAgainstValidate(getThenSet(redis), ROUNDS),
);
passesOneByOne("GET-then-SET refresh", (redis) =>
  suite.slideAgainstDelete(oneByOne(getThenSet(redis)), ROUNDS_ONE_BY_ONE),
);

detected("SADD after SET", /alive that no list contains/, (redis) =>
  suite.revokeAllAgainstCreate(saddAfterSet(redis), ROUNDS),
);
passesOneByOne("SADD after SET", (redis) =>
  suite.revokeAllAgainstCreate(oneByOne(saddAfterSet(redis)), ROUNDS_ONE_BY_ONE),
);

detected("WATCH on a shared connection", /under a limit of 3/, (redis) =>
  suite.createAgainstLimit(watchOnSharedConnection(redis), ROUNDS),
);
passesOneByOne("WATCH on a shared connection", (redis) =>
  suite.createAgainstLimit(oneByOne(watchOnSharedConnection(redis)), ROUNDS_ONE_BY_ONE),
);

detected("HSET on a dead hash", /brought a key back/, (redis) =>
  suite.fieldWriteAgainstEnd(hsetOnDeadHash(redis), ROUNDS),
);
passesOneByOne("HSET on a dead hash", (redis) =>
  suite.fieldWriteAgainstEnd(oneByOne(hsetOnDeadHash(redis)), ROUNDS_ONE_BY_ONE),
);

detected("a device map without owner, by two users", /shared device/, (redis) =>
  suite.twoUsersOnOneDevice(deviceMapWithoutOwner(redis), ROUNDS),
);
detected("a device map without owner, by one user", /sessions are alive on one device/, (redis) =>
  suite.deviceLoginAgainstDeviceLogin(deviceMapWithoutOwner(redis), ROUNDS),
);
passesOneByOne("a device map without owner, by one user,", (redis) =>
  suite.deviceLoginAgainstDeviceLogin(oneByOne(deviceMapWithoutOwner(redis)), ROUNDS_ONE_BY_ONE),
);

detected("revoke without the secret", /a forged token ended the session/, (redis) =>
  suite.revokeWithoutSecret(tokenRevokedById(redis), ROUNDS),
);
detected("rotation that compares and then writes", /rotations won/, (redis) =>
  suite.rotateAgainstRotate(tokenRevokedById(redis), ROUNDS),
);
passesOneByOne("rotation that compares and then writes", (redis) =>
  suite.rotateAgainstRotate(oneByOne(tokenRevokedById(redis)), ROUNDS_ONE_BY_ONE),
);

detected("regenerate by copy and delete", /regenerations won/, (redis) =>
  suite.regenerateAgainstRegenerate(copyAndDelete(redis), ROUNDS),
);
passesOneByOne("regenerate by copy and delete", (redis) =>
  suite.regenerateAgainstRegenerate(oneByOne(copyAndDelete(redis)), ROUNDS_ONE_BY_ONE),
);

detected("DEL then PUBLISH", /ended without a publication/, async (redis, subscriber) =>
  suite.endAgainstPublication(await delThenPublish(redis, subscriber), ROUNDS),
);

test("all of them are detected within a minute", { skip }, (t) => {
  t.diagnostic(`${tookMs.toFixed(0)} ms`);
  assert.ok(tookMs < ALL_WITHIN_MS, `it took ${tookMs.toFixed(0)} ms`);
});
