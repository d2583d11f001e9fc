// Random histories of one user with about as many sessions as the store scans one by one: a limit evicts the sessions least
// recently accessed, whether the store finds them by a scan or by its index in the order of access.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { durationFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { OnExceed, type Session } from "../../gen/session/v1/session_pb.ts";
import { partitionOfOwner } from "../../src/domain/owner.ts";
import { PARTITION_TAGS } from "../../src/store/partition_tags.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import type { AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { rounds } from "../helpers/rounds.ts";
import { allPages } from "./steps_run.ts";

const RUNS = rounds({ quick: 30, all: 80, variable: "EVICTION_RUNS" });
const CONCURRENCY = 4;
const HOUR_MS = 3_600_000;
const skip = redisServerMissing();

let authorities: Authorities;

before(async () => {
  if (skip) return;
  authorities = await startAuthorities({ instances: 2, touchIntervalMs: 0 });
});
after(async () => {
  if (skip) return;
  await authorities.assertStoreSound();
  await authorities.close();
});

/** The live sessions of a user by their ids, each with its last access by the service's responses. */
class User {
  readonly userId: string;
  readonly live = new Map<string, { readonly accessedMs: number; readonly device: string }>();
  #calls = 0;

  constructor(userId: string) {
    this.userId = userId;
  }

  get client(): AuthorityClient {
    return authorities.clients[this.#calls++ % authorities.clients.length]!;
  }

  get orderKey(): string {
    const owner = `default:${encodeURIComponent(this.userId)}`;
    return `sa:{${PARTITION_TAGS[partitionOfOwner(owner)]}}:o:${owner}`;
  }

  /** Returns one of the ids, ordered by last access; undefined if there is none. */
  pick(n: number): string | undefined {
    const ids = this.#byAge();
    return ids[n % ids.length];
  }

  note({ sessionId, lastAccessTime }: Session, device = this.live.get(sessionId)?.device ?? ""): void {
    this.live.set(sessionId, { accessedMs: timestampMs(lastAccessTime!), device });
  }

  /** Removes the least recently accessed, so that one more session makes `limit`. */
  makeRoom(limit: number): void {
    for (const id of this.#byAge().slice(0, Math.max(0, this.live.size + 1 - limit))) this.live.delete(id);
  }

  #byAge(): string[] {
    const byAge = [...this.live].toSorted(([a, x], [b, y]) => x.accessedMs - y.accessedMs || (a < b ? -1 : 1));
    return byAge.map(([id]) => id);
  }
}

type Step = { readonly kind: string; readonly n: number; readonly limit: number; readonly hours: number };

const STEPS: Readonly<Record<string, (user: User, step: Step) => Promise<void>>> = {
  /** Concurrent logins: several have the same last access. */
  async createMany(user, { n, hours }) {
    const idle = (i: number) => durationFromMs(HOUR_MS * (1 + ((i * hours) % 7)));
    const { userId } = user;
    const creates = Array.from({ length: n }, (_, i) => user.client.createSession({ userId, idleTimeout: idle(i) }));
    for (const { session } of await Promise.all(creates)) user.note(session!);
  },
  async create(user, { limit }) {
    const sessionLimit = { maxSessions: limit, onExceed: OnExceed.EVICT_OLDEST };
    const { session } = await user.client.createSession({ userId: user.userId, limit: sessionLimit });
    user.makeRoom(limit);
    user.note(session!);
  },
  async logInOnDevice(user, { n, limit }) {
    const sessionLimit = { maxSessions: limit, onExceed: OnExceed.EVICT_OLDEST };
    const device = `${user.userId} ${n % 2}`;
    const { session } = await user.client.createDeviceSession({
      userId: user.userId,
      device: { deviceId: device },
      limit: sessionLimit,
    });
    for (const [id, other] of user.live) if (other.device === device) user.live.delete(id);
    user.makeRoom(limit);
    user.note(session!, device);
  },
  async access(user, { n }) {
    const sessionId = user.pick(n);
    if (sessionId !== undefined) user.note((await user.client.getSession({ sessionId })).session!);
  },
  async update(user, { n }) {
    const sessionId = user.pick(n);
    if (sessionId === undefined) return;
    user.note((await user.client.updateSessionData({ sessionId, data: { n } })).session!);
  },
  async regenerate(user, { n }) {
    const sessionId = user.pick(n);
    if (sessionId === undefined) return;
    const { device } = user.live.get(sessionId)!;
    const { session } = await user.client.regenerateSession({ sessionId, grace: durationFromMs(1000) });
    user.live.delete(sessionId);
    user.note(session!, device);
  },
  async remove(user, { n }) {
    const sessionId = user.pick(n);
    if (sessionId === undefined) return;
    await user.client.deleteSession({ sessionId });
    user.live.delete(sessionId);
  },
  async expire(user, { n }) {
    const sessionId = user.pick(n);
    if (sessionId === undefined) return;
    await authorities.expireNow(sessionId);
    user.live.delete(sessionId);
  },
  async removeAllButOne(user, { n }) {
    const exceptSessionId = user.pick(n) ?? "";
    await user.client.deleteUserSessions({ userId: user.userId, exceptSessionId });
    for (const id of user.live.keys()) if (id !== exceptSessionId) user.live.delete(id);
  },
  async loseOrder(user) {
    await authorities.control.del(user.orderKey);
  },
};

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.oneof(
    { weight: 5, arbitrary: fc.constant("create") },
    { weight: 3, arbitrary: fc.constant("access") },
    { weight: 6, arbitrary: fc.constantFrom(...Object.keys(STEPS).filter((kind) => kind !== "removeAllButOne")) },
    { weight: 1, arbitrary: fc.constantFrom("createMany", "removeAllButOne") },
  ),
  n: fc.nat(80),
  limit: fc.oneof({ weight: 4, arbitrary: fc.integer({ min: 62, max: 70 }) }, fc.constantFrom(1, 30, 100)),
  hours: fc.nat(6),
});

test(`${RUNS} random histories agree with the model`, { skip }, async () => {
  let runs = 0;
  let indexed = 0;
  const history = fc.asyncProperty(
    fc.integer({ min: 60, max: 80 }),
    fc.array(step, { maxLength: 25, size: "max" }),
    async (n, steps) => {
      const user = new User(`user-${runs++}`);
      for (const each of [{ kind: "createMany", n, limit: 0, hours: 3 }, ...steps]) {
        await STEPS[each.kind]!(user, each);
        const ids = await allPages(async (pageToken) => {
          const page = await user.client.listUserSessions({ userId: user.userId, pageSize: 1000, pageToken });
          return { items: page.sessions.map(({ sessionId }) => sessionId), nextPageToken: page.nextPageToken };
        });
        assert.deepEqual(ids.toSorted(), [...user.live.keys()].toSorted());
      }
      indexed += await authorities.control.exists(user.orderKey);
    },
  );
  const checks = Array.from({ length: CONCURRENCY }, () =>
    fc.assert(history, { numRuns: Math.ceil(RUNS / CONCURRENCY) }),
  );
  await Promise.all(checks);
  assert.ok(indexed > 0, "no user had more sessions than the store scans one by one");
});
