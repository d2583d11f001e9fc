// Watchers of a store that restarts: none is reset if the store lost nothing, and each is reset of what it may have missed.

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { WatchResetCause, type WatchReset } from "../../gen/session/v1/watch_pb.ts";
import { ownerOf, partitionOfOwner } from "../../src/domain/owner.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { createWatchClient, type WatchRequest, type WatchStream } from "../helpers/watch_client.ts";

const skip = redisServerMissing();
const AOF = ["--appendonly", "yes", "--appendfsync", "always"];
const partitionOf = (userId: string) => partitionOfOwner(ownerOf("default", userId));

async function start(t: TestContext, redisArgs: readonly string[]): Promise<Authorities> {
  const authorities = await startAuthorities({ instances: 2, redisArgs });
  t.after(() => authorities.close());
  return authorities;
}

async function watch(t: TestContext, { servers }: Authorities, instance: number, request: WatchRequest = {}) {
  const client = createWatchClient(servers[instance]!.addresses.grpc!);
  t.after(() => client.close());
  const stream = client.watch(request);
  await stream.opened();
  return stream;
}

/** Creates and deletes a session of a user, through an instance that may still be without its store. */
async function login({ clients }: Authorities, userId: string): Promise<string> {
  for (const deadlineMs = performance.now() + 20_000; ; await sleep(50)) {
    try {
      const { session } = await clients[0]!.createSession({ userId });
      const { sessionId } = session!;
      await clients[0]!.deleteSession({ sessionId });
      return sessionId;
    } catch (error) {
      if (performance.now() > deadlineMs) throw error;
    }
  }
}

async function checkpoint(stream: WatchStream): Promise<string> {
  for (const deadlineMs = performance.now() + 20_000; ;) {
    try {
      return await stream.checkpoint(1000);
    } catch (error) {
      if (performance.now() > deadlineMs || stream.record.endedMs !== undefined) throw error;
    }
  }
}

const resetsOf = ({ record }: WatchStream): WatchReset[] =>
  record.events.flatMap(({ event }) => (event.case === "reset" ? [event.value] : []));
const endedIn = ({ record }: WatchStream): string[] =>
  record.events.flatMap(({ event }) => (event.case === "invalidation" ? [event.value.sessionId] : []));

/** Ends the store as a service manager does, and waits until it is gone. */
async function terminate({ redis }: Authorities): Promise<void> {
  const { pid } = redis;
  process.kill(pid, "SIGTERM");
  for (;;) {
    try {
      process.kill(pid, 0);
    } catch {
      return;
    }
    await sleep(10);
  }
}

const ENDS: Record<string, (authorities: Authorities) => Promise<void>> = {
  SIGTERM: terminate,
  SIGKILL: ({ redis }) => redis.kill(),
};
const users = Array.from({ length: 40 }, (_, n) => `restart-${n}`);

for (const [signal, endStore] of Object.entries(ENDS)) {
  test(`a store with an AOF that is ended by ${signal} resets no watcher (cases/watch.md 1)`, { skip }, async (t) => {
    const authorities = await start(t, AOF);
    for (const userId of users.slice(0, 20)) await login(authorities, userId);
    const streams = [await watch(t, authorities, 0), await watch(t, authorities, 1)];
    const resumePosition = await checkpoint(streams[0]!);

    const missed = [await login(authorities, users[0]!)];
    for (let restart = 0; restart < 2; restart++) {
      await endStore(authorities);
      await authorities.redis.restart();
      await Promise.all(streams.map(checkpoint));
      // Partitions that had changes before the restart, and others.
      for (const userId of users) missed.push(await login(authorities, userId));
      await Promise.all(streams.map(checkpoint));
    }
    const resumed = await watch(t, authorities, 1, { resumePosition });
    await checkpoint(resumed);
    for (const stream of [...streams, resumed]) {
      assert.deepEqual(resetsOf(stream), []);
      assert.deepEqual(endedIn(stream).toSorted(), missed.toSorted());
    }
  });
}

test("a store that lost its last changes resets their partition, and no other", { skip }, async (t) => {
  const authorities = await start(t, []);
  const [lost, kept] = ["lost", "kept"] as const;
  assert.notEqual(partitionOf(lost), partitionOf(kept));
  await login(authorities, lost);
  await login(authorities, kept);
  const stream = await watch(t, authorities, 0);
  await authorities.control.sendCommand(["SAVE"]);
  await login(authorities, lost);
  const resumePosition = await checkpoint(stream);
  await authorities.redis.restart();
  await checkpoint(stream);
  const after = [await login(authorities, lost), await login(authorities, kept)];
  await checkpoint(stream);
  const resumed = await watch(t, authorities, 1, { resumePosition });
  await checkpoint(resumed);
  for (const each of [stream, resumed]) {
    const resets = resetsOf(each).map(({ partition, cause }) => [partition, cause]);
    assert.deepEqual(resets, [[partitionOf(lost), WatchResetCause.EPOCH_CHANGED]]);
    assert.deepEqual(endedIn(each).slice(-2).toSorted(), after.toSorted());
  }
});

test(
  "a store that lost everything resets with one message, and filtered watchers of their partitions only",
  { skip },
  async (t) => {
    const authorities = await start(t, []);
    for (const userId of users) await login(authorities, userId);
    const userIds = users.slice(0, 3);
    const all = await watch(t, authorities, 0);
    const filtered = await watch(t, authorities, 0, { userIds });
    const resumePosition = await checkpoint(all);
    await authorities.redis.restart();
    await checkpoint(all);
    await checkpoint(filtered);
    const resumed = await watch(t, authorities, 1, { resumePosition });
    const resumedFiltered = await watch(t, authorities, 1, { resumePosition, userIds });
    await checkpoint(resumed);
    await checkpoint(resumedFiltered);
    for (const stream of [all, resumed]) {
      const resets = resetsOf(stream).map(({ cause, partition, position }) => [cause, partition, position]);
      assert.deepEqual(resets, [[WatchResetCause.EPOCH_CHANGED, undefined, ""]]);
    }
    const own = userIds.map(partitionOf).toSorted((a, b) => a - b);
    for (const stream of [filtered, resumedFiltered]) {
      const partitions = resetsOf(stream).map(({ partition }) => partition!);
      assert.deepEqual(
        partitions.toSorted((a, b) => a - b),
        own,
      );
    }
    // After the reset, the stream goes on from its next checkpoint.
    const again = await watch(t, authorities, 0, { resumePosition: all.lastPosition() });
    const sessionId = await login(authorities, users[0]!);
    await checkpoint(again);
    assert.deepEqual([resetsOf(again), endedIn(again)], [[], [sessionId]]);
  },
);
