// Runs one history: the operations, watchers and faults that a seed determines. Returns the record.

import { setTimeout as sleep } from "node:timers/promises";
import { ownerOf, partitionOfOwner } from "../../src/domain/owner.ts";
import { follow, type Follower } from "./follower.ts";
import type { History } from "./history.ts";
import { createWriters, type Writers } from "./operations.ts";
import { randomFrom, type Random } from "./random.ts";
import { INSTANCES, type World } from "./world.ts";

const SETTLE_MS = 15_000;
const OPERATIONS_PER_PHASE = 30;

type Scene = { world: World; random: Random; writers: Writers; followers: Follower[] };

/** Each causes its fault while `act` runs, and has removed it when it resolves. */
const FAULTS: Record<string, (scene: Scene, act: () => Promise<void>) => Promise<void>> = {
  async nothing(_scene, act) {
    await act();
  },
  async "subscriber connection cut"({ world, random }, act) {
    const { store } = world.instances[random.below(INSTANCES)]!;
    const acting = act();
    for (let times = 3; times > 0; times--) {
      store.cut(true);
      await sleep(10 + random.below(30));
    }
    await acting;
  },
  async "subscriber connection silent"({ world, random }, act) {
    const { store } = world.instances[random.below(INSTANCES)]!;
    store.blackhole(true, true);
    await act();
    store.blackhole(false);
  },
  async "all connections of an instance cut"({ world, random }, act) {
    const acting = act();
    await sleep(random.below(20));
    world.instances[random.below(INSTANCES)]!.store.cut();
    await acting;
  },
  async "store restarted"({ world, random }, act) {
    const acting = act();
    await sleep(random.below(60));
    await world.restartStore();
    await acting;
  },
  async "messages dropped"({ world, random }, act) {
    const share = random.pick([0.05, 0.3, 0.9, 1]);
    const chosen = world.instances.filter((_, i) => i === 0 || random.chance(0.5));
    for (const { store } of chosen) store.dropMessages(() => random.chance(share));
    await act();
    for (const { store } of chosen) store.dropMessages(undefined);
  },
  async "messages dropped, then the store restarted"(scene, act) {
    const { world } = scene;
    for (const { store } of world.instances) store.dropMessages(() => true);
    await act();
    await world.restartStore();
    for (const { store } of world.instances) store.dropMessages(undefined);
  },
  async "log trimmed under a disconnected watcher"({ world, random, writers, followers }, act) {
    const away = random.pick(followers);
    away.disconnect();
    await act();
    const partitions = new Set(writers.userIds.map((userId) => partitionOfOwner(ownerOf("default", userId))));
    for (const partition of partitions) if (random.chance(0.7)) await world.trim(partition, random.below(3));
    away.reconnect();
  },
  async "watcher disconnected while the store restarts"({ world, random, followers }, act) {
    const away = random.pick(followers);
    away.disconnect();
    await act();
    await world.restartStore();
    away.reconnect();
  },
  async "watcher stalls"({ random, writers, followers }, act) {
    const slow = random.pick(followers).stream();
    slow.stall();
    await Promise.all([act(), writers.flood(1300)]);
    slow.unstall();
  },
  async "instance killed"({ world, random }, act) {
    const i = random.below(INSTANCES);
    const acting = act();
    await sleep(random.below(30));
    await world.killInstance(i);
    await acting;
    await world.reviveInstance(i);
  },
};

/** @throws if a watcher gets no checkpoint after the faults. */
export async function runHistory(world: World, seed: number): Promise<History> {
  const random = randomFrom(seed);
  const firstPublished = world.published.length;
  const prefix = `h${seed}`;
  const writers = createWriters(world, random, prefix);
  const followers: Follower[] = [];
  const scene = { world, random, writers, followers };
  const faults: string[] = [];

  async function phase(): Promise<void> {
    const acting = writers.run(OPERATIONS_PER_PHASE);
    const done = acting.then(() => true);
    while (!(await Promise.race([done, sleep(30 + random.below(60), false)]))) {
      // Renewals may fail because of the fault.
      for (const follower of followers) if (random.chance(0.3)) follower.settle(0).catch(() => undefined);
    }
    await acting;
  }

  try {
    for (let i = 0; i < INSTANCES; i++) followers.push(await follow(world, random, `all on ${i}`, i));
    const reasons = random.chance(0.5) ? ["deleted"] : ["revoked", "changed", "expired"];
    followers.push(await follow(world, random, "some reasons", random.below(INSTANCES), { reasons }));
    const userIds = writers.userIds.filter((_, i) => i % 2 === 0);
    followers.push(await follow(world, random, "some users", random.below(INSTANCES), { userIds }));
    await phase();
    const sessionIds = writers.sessionIds.slice(-20);
    followers.push(await follow(world, random, "some sessions", random.below(INSTANCES), { sessionIds }));
    for (let left = 1 + random.below(2); left > 0; left--) {
      const fault = random.pick(Object.keys(FAULTS));
      faults.push(fault);
      await FAULTS[fault]!(scene, phase);
    }
    for (const follower of followers) follower.reconnect();
    await Promise.all(followers.map((follower) => follower.settle(SETTLE_MS)));
  } finally {
    await Promise.all(followers.map((follower) => follower.stop()));
  }

  const known = new Map(world.published.slice(firstPublished).map((change) => [change.id, change]));
  const partitions = new Set(writers.userIds.map((userId) => partitionOfOwner(ownerOf("default", userId))));
  for (const partition of partitions) for (const change of await world.readLog(partition)) known.set(change.id, change);
  const watchers = followers.map(({ record }) => record);
  return {
    seed,
    faults,
    writes: writers.writes,
    known,
    watchers,
    decode: world.decode,
  };
}
