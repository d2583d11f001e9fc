// Resuming a watch: exactly the missed changes or a reset, on any instance; and which positions are rejected.

import assert from "node:assert/strict";
import { createSecretKey, createHash, randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { status } from "@grpc/grpc-js";
import { WatchResetCause } from "../../gen/session/v1/watch_pb.ts";
import { ownerOf, partitionOfOwner } from "../../src/domain/owner.ts";
import { decodePosition, encodePosition } from "../../src/domain/position.ts";
import type { TokenKeyRing } from "../../src/domain/token.ts";
import { partitionKeys } from "../../src/store/keys.ts";
import { parseTokenKeys } from "../../src/auth/token_key_file.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { createWatchClient, type WatchClient, type WatchRequest, type WatchStream } from "../helpers/watch_client.ts";

const skip = redisServerMissing();
const acme = { authorization: "Bearer acme-key" };
const globex = { authorization: "Bearer globex-key" };

let directory: string;
let authorities: Authorities;
let ring: TokenKeyRing;
const opened: WatchClient[] = [];

before(async () => {
  if (skip) return;
  directory = mkdtempSync(join(tmpdir(), "sa-watch-"));
  const keys = ["acme", "globex"].map((tenant) => {
    const sha256 = createHash("sha256").update(`${tenant}-key`).digest("hex");
    return { name: tenant, tenant, sha256, scopes: ["read", "write", "watch"] };
  });
  writeFileSync(join(directory, "keys.json"), JSON.stringify({ keys }));
  authorities = await startAuthorities({ instances: 2, env: { SA_API_KEYS_FILE: join(directory, "keys.json") } });
  ring = parseTokenKeys(readFileSync(join(authorities.redis.dataDir, "token_keys.json"), "utf8"));
});
after(async () => {
  for (const each of opened) each.close();
  if (skip) return;
  await authorities.close();
  rmSync(directory, { recursive: true });
});

function start(request: WatchRequest = {}, instance = 0, headers = acme): WatchStream {
  const watchClient = createWatchClient(authorities.servers[instance]!.addresses.grpc!, headers);
  opened.push(watchClient);
  return watchClient.watch(request);
}

function invalidationsOf(stream: WatchStream) {
  return stream.record.events.flatMap(({ event }) => (event.case === "invalidation" ? [event.value] : []));
}

function resetsOf(stream: WatchStream) {
  return stream.record.events.flatMap(({ event }) => (event.case === "reset" ? [event.value] : []));
}

const partitionOf = (userId: string) => partitionOfOwner(ownerOf("acme", userId));

/** Returns two users of different partitions; the first is in the lower partition, which is replayed first. */
function usersApart(name: string): [low: string, high: string] {
  const users = [`${name}-1`, `${name}-2`, `${name}-3`].toSorted((a, b) => partitionOf(a) - partitionOf(b));
  const [low, , high] = users as [string, string, string];
  assert.notEqual(partitionOf(low), partitionOf(high));
  return [low, high];
}

async function createAndDelete(userId: string): Promise<string> {
  const client = authorities.clients[0]!;
  const { session } = await client.createSession({ userId }, { metadata: acme });
  await client.deleteSession({ sessionId: session!.sessionId }, { metadata: acme });
  return session!.sessionId;
}

/** Returns the present position, from a stream that is closed again. */
async function positionNow(): Promise<string> {
  const stream = start();
  const position = await stream.checkpoint();
  stream.cancel();
  await stream.ended;
  return position;
}

/** Makes the store one that was promoted without the last change of a partition. */
async function loseLastChange(partition: number): Promise<void> {
  const [, log, tail, meta] = partitionKeys(partition);
  const [epoch, seq] = (await authorities.control.get(tail))!.split("-").map(Number);
  await authorities.control
    .multi()
    .set(tail, `${epoch}-${seq! - 1}`)
    .xDel(log, `${epoch}-${seq}`)
    .hSet(meta, "replid", "of another store")
    .exec();
}

test("resuming on another instance sends exactly the missed changes, in order", { skip }, async () => {
  const [low, high] = usersApart("resume");
  await createAndDelete(low);
  const resumePosition = await positionNow();
  const missed = [await createAndDelete(low), await createAndDelete(low), await createAndDelete(high)];
  const stream = start({ resumePosition }, 1);
  assert.equal((await stream.opened()).position, resumePosition);
  const later = await createAndDelete(low);
  await stream.checkpoint();
  assert.deepEqual(
    invalidationsOf(stream).map(({ sessionId }) => sessionId),
    [...missed, later],
  );
  assert.deepEqual(resetsOf(stream), []);
});

test("a position that is forged, cut, of another tenant or of another key is INVALID_ARGUMENT", { skip }, async () => {
  const position = await positionNow();
  const bytes = Buffer.from(position, "base64url");
  const otherKey = { kid: ring.active.kid, key: createSecretKey(randomBytes(32)) };
  const otherRing = { active: otherKey, verifying: new Map([[otherKey.kid, otherKey]]) };
  const otherKid = { active: { ...ring.active, kid: 999 }, verifying: ring.verifying };
  const forged = [3, 20, bytes.length - 1].map((at) => {
    const changed = Buffer.from(bytes);
    changed[at]! ^= 1;
    return changed.toString("base64url");
  });
  const refused = [
    ...forged,
    bytes.subarray(0, -1).toString("base64url"),
    bytes.subarray(0, 10).toString("base64url"),
    "x",
    encodePosition(otherRing, "acme", decodePosition(ring, "acme", position)),
    encodePosition(otherKid, "acme", decodePosition(ring, "acme", position)),
    encodePosition(ring, "globex", decodePosition(ring, "acme", position)),
  ];
  for (const resumePosition of refused) {
    const error = await start({ resumePosition }).ended;
    assert.deepEqual([error?.code, error?.fields], [status.INVALID_ARGUMENT, ["resume_position"]]);
  }
  const foreign = await start({ resumePosition: position }, 0, globex).ended;
  assert.equal(foreign?.code, status.INVALID_ARGUMENT, "a caller of another tenant");
});

test("a tenant receives no changes of another tenant's sessions", { skip }, async () => {
  const stream = start({}, 0, globex);
  await stream.opened();
  await createAndDelete("of-acme");
  await stream.checkpoint();
  assert.deepEqual(invalidationsOf(stream), []);
});

test(
  "a trimmed log causes a reset of its partition, and resuming from the reset skips no other partition",
  { skip },
  async () => {
    const [low, high] = usersApart("trimmed");
    await createAndDelete(low);
    await createAndDelete(high);
    const resumePosition = await positionNow();
    await createAndDelete(low);
    const inHigh = await createAndDelete(high);
    await authorities.control.sendCommand(["XTRIM", partitionKeys(partitionOf(low))[1], "MAXLEN", "0"]);
    const stream = start({ resumePosition }, 1);
    await stream.checkpoint();
    const [reset, ...more] = resetsOf(stream);
    assert.deepEqual(more, []);
    assert.deepEqual([reset!.cause, reset!.partition], [WatchResetCause.TRIMMED, partitionOf(low)]);
    assert.deepEqual(
      invalidationsOf(stream).map(({ sessionId }) => sessionId),
      [inHigh],
    );
    // This is as if the stream had broken right after the reset.
    const again = start({ resumePosition: reset!.position });
    await again.checkpoint();
    assert.deepEqual(
      invalidationsOf(again).map(({ sessionId }) => sessionId),
      [inHigh],
      "the changes that were still to be replayed",
    );
    assert.deepEqual(resetsOf(again), []);
  },
);

test("a new epoch after a lost change causes a reset, and resuming from it causes no other", { skip }, async () => {
  const userId = "epoch";
  await createAndDelete(userId);
  const stream = start();
  await stream.opened();
  await loseLastChange(partitionOf(userId));
  const sessionId = await createAndDelete(userId);
  await stream.checkpoint();
  const [reset, ...more] = resetsOf(stream);
  assert.deepEqual(more, []);
  assert.deepEqual([reset!.cause, reset!.partition], [WatchResetCause.EPOCH_CHANGED, partitionOf(userId)]);
  assert.deepEqual(
    invalidationsOf(stream).map((change) => change.sessionId),
    [sessionId],
  );
  const again = start({ resumePosition: reset!.position }, 1);
  await again.checkpoint();
  assert.deepEqual(
    invalidationsOf(again).map((change) => change.sessionId),
    [sessionId],
  );
  assert.deepEqual(resetsOf(again), []);
});

test("a store that lost the only changes of a partition causes a reset of it", { skip }, async () => {
  const userId = "never before";
  const resumePosition = await positionNow();
  await createAndDelete(userId);
  await authorities.control.sendCommand(["FLUSHALL"]);
  const stream = start({ resumePosition }, 1);
  await stream.checkpoint();
  assert.ok(resetsOf(stream).some(({ partition }) => partition === undefined || partition === partitionOf(userId)));
});
