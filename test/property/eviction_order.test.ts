// Random histories of one user with more or fewer sessions than the store looks at one by one: a limit ends the sessions
// least recently accessed, whichever way the store finds them.

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
const LANES = 4;
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

/** The live sessions of a user by their ids, with the last access of each as the service told it. */
class Crowd {
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

  /** One of them, the oldest first; undefined when there is none. */
  pick(n: number): string | undefined {
    const ids = this.#byAge();
    return ids[n % ids.length];
  }

  note({ sessionId, lastAccessedAt }: Session, device = this.live.get(sessionId)?.device ?? ""): void {
    this.live.set(sessionId, { accessedMs: timestampMs(lastAccessedAt!), device });
  }

  /** Down to `most`, of which one is to come. */
  evict(most: number): void {
    for (const id of this.#byAge().slice(0, Math.max(0, this.live.size + 1 - most))) this.live.delete(id);
  }

  #byAge(): string[] {
    const byAge = [...this.live].toSorted(([a, x], [b, y]) => x.accessedMs - y.accessedMs || (a < b ? -1 : 1));
    return byAge.map(([id]) => id);
  }
}

type Step = { readonly kind: string; readonly n: number; readonly most: number; readonly hours: number };

const TAKE: Readonly<Record<string, (crowd: Crowd, step: Step) => Promise<void>>> = {
  /** Many at once: several have the same last access. */
  async arrive(crowd, { n, hours }) {
    const idle = (i: number) => durationFromMs(HOUR_MS * (1 + ((i * hours) % 7)));
    const { userId } = crowd;
    const creates = Array.from({ length: n }, (_, i) => crowd.client.createSession({ userId, idleTimeout: idle(i) }));
    for (const { session } of await Promise.all(creates)) crowd.note(session!);
  },
  async create(crowd, { most }) {
    const limit = { maxSessions: most, onExceed: OnExceed.EVICT_OLDEST };
    const { session } = await crowd.client.createSession({ userId: crowd.userId, limit });
    crowd.evict(most);
    crowd.note(session!);
  },
  async logInOnDevice(crowd, { n, most }) {
    const limit = { maxSessions: most, onExceed: OnExceed.EVICT_OLDEST };
    const device = `${crowd.userId} ${n % 2}`;
    const { session } = await crowd.client.createDeviceSession({
      userId: crowd.userId,
      device: { deviceId: device },
      limit,
    });
    for (const [id, other] of crowd.live) if (other.device === device) crowd.live.delete(id);
    crowd.evict(most);
    crowd.note(session!, device);
  },
  async access(crowd, { n }) {
    const sessionId = crowd.pick(n);
    if (sessionId !== undefined) crowd.note((await crowd.client.getSession({ sessionId })).session!);
  },
  async update(crowd, { n }) {
    const sessionId = crowd.pick(n);
    if (sessionId === undefined) return;
    crowd.note((await crowd.client.updateSessionData({ sessionId, data: { n } })).session!);
  },
  async regenerate(crowd, { n }) {
    const sessionId = crowd.pick(n);
    if (sessionId === undefined) return;
    const { device } = crowd.live.get(sessionId)!;
    const { session } = await crowd.client.regenerateSession({ sessionId, grace: durationFromMs(1000) });
    crowd.live.delete(sessionId);
    crowd.note(session!, device);
  },
  async remove(crowd, { n }) {
    const sessionId = crowd.pick(n);
    if (sessionId === undefined) return;
    await crowd.client.deleteSession({ sessionId });
    crowd.live.delete(sessionId);
  },
  async expire(crowd, { n }) {
    const sessionId = crowd.pick(n);
    if (sessionId === undefined) return;
    await authorities.expireNow(sessionId);
    crowd.live.delete(sessionId);
  },
  async removeAllButOne(crowd, { n }) {
    const exceptSessionId = crowd.pick(n) ?? "";
    await crowd.client.deleteUserSessions({ userId: crowd.userId, exceptSessionId });
    for (const id of crowd.live.keys()) if (id !== exceptSessionId) crowd.live.delete(id);
  },
  async loseOrder(crowd) {
    await authorities.control.del(crowd.orderKey);
  },
};

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.oneof(
    { weight: 5, arbitrary: fc.constant("create") },
    { weight: 3, arbitrary: fc.constant("access") },
    { weight: 6, arbitrary: fc.constantFrom(...Object.keys(TAKE).filter((kind) => kind !== "removeAllButOne")) },
    { weight: 1, arbitrary: fc.constantFrom("arrive", "removeAllButOne") },
  ),
  n: fc.nat(80),
  most: fc.oneof({ weight: 4, arbitrary: fc.integer({ min: 62, max: 70 }) }, fc.constantFrom(1, 30, 100)),
  hours: fc.nat(6),
});

test(`${RUNS} random histories agree with the model`, { skip }, async () => {
  let runs = 0;
  let crowded = 0;
  const history = fc.asyncProperty(
    fc.integer({ min: 60, max: 80 }),
    fc.array(step, { maxLength: 25, size: "max" }),
    async (n, steps) => {
      const crowd = new Crowd(`crowd-${runs++}`);
      for (const each of [{ kind: "arrive", n, most: 0, hours: 3 }, ...steps]) {
        await TAKE[each.kind]!(crowd, each);
        const ids = await allPages(async (pageToken) => {
          const page = await crowd.client.listUserSessions({ userId: crowd.userId, pageSize: 1000, pageToken });
          return { items: page.sessions.map(({ sessionId }) => sessionId), nextPageToken: page.nextPageToken };
        });
        assert.deepEqual(ids.toSorted(), [...crowd.live.keys()].toSorted());
      }
      crowded += await authorities.control.exists(crowd.orderKey);
    },
  );
  const lanes = Array.from({ length: LANES }, () => fc.assert(history, { numRuns: Math.ceil(RUNS / LANES) }));
  await Promise.all(lanes);
  assert.ok(crowded > 0, "no user had more sessions than the store looks at one by one");
});
