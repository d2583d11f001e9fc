// The staleness probe catches caches that are broken on purpose; the real cache passes the same schedules.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { assembleSessionClient, CLIENT_PARTS, type ClientParts } from "../../src/client/client.ts";
import type { SessionClient } from "../../src/client/index.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { noFillRaceRule } from "../known-bad/caches/no_fill_race_rule.ts";
import { noFlushOnReconnect, noFlushOnReset } from "../known-bad/caches/no_flush.ts";
import { oneWayHeartbeats } from "../known-bad/caches/one_way_heartbeats.ts";
import { withLateResponses } from "../helpers/late_responses.ts";
import { startClientProxy, type ClientProxy } from "../helpers/client_proxy.ts";
import { LEASE_MS, startProbe, type Subject } from "../helpers/staleness_probe.ts";

const skip = redisServerMissing();
let authorities: Authorities;

before(async () => {
  if (!skip) authorities = await startAuthorities();
});
after(() => authorities?.close());

type Scene = {
  readonly client: SessionClient;
  readonly proxy: ClientProxy;
  /** The delay of the responses of lookups, and how many were delayed. */
  readonly responses: { delayMs: number; late: number };
  readonly subject: Subject & { id: string };
  /** Makes the readers of the probe look up the session. */
  readonly read: () => void;
};
type Schedule = (scene: Scene) => Promise<void>;

const end = async (subject: Subject & { id: string }) => {
  await authorities.clients[0]!.invalidateSession({ sessionId: subject.id });
  subject.endedMs = performance.now();
};

/** The session ends while the response of a lookup is on its way. */
const endDuringFill: Schedule = async ({ client, responses, subject, read }) => {
  responses.delayMs = 500;
  const lookup = subject.lookUp(client);
  await until(() => responses.late > 0, "no lookup was sent");
  responses.delayMs = 0;
  await end(subject);
  await lookup;
  read();
  await sleep(LEASE_MS + 500);
};

/** The session ends while everything that the service sends arrives late, in order and without a loss. */
const endOnSlowConnection: Schedule = async ({ client, proxy, subject, read }) => {
  read();
  await until(() => client.statistics().hits > 10, "there were no hits");
  proxy.delay("toClient", 4200);
  await sleep(4700);
  await end(subject);
  await sleep(LEASE_MS + 1500);
  proxy.delay("toClient", 0);
};

/** The session ends while the connection is cut. */
const endWhileCut: Schedule = async ({ client, proxy, subject, read }) => {
  read();
  await until(() => client.statistics().hits > 10, "there were no hits");
  proxy.cut(true);
  await end(subject);
  proxy.restore();
  await sleep(LEASE_MS + 2000);
};

/** The session ends while the connection is cut, and the log is trimmed before it is restored. */
const endWhileCutAndTrim: Schedule = async ({ client, proxy, subject, read }) => {
  read();
  await until(() => client.statistics().hits > 10, "there were no hits");
  const [key] = await authorities.keysOfSession(subject.id);
  proxy.cut(true);
  await end(subject);
  await authorities.control.sendCommand(["XTRIM", key!.replace(/:s:.*$/, ":log"), "MAXLEN", "0"]);
  proxy.restore();
  await sleep(LEASE_MS + 2000);
};

describe("the staleness probe", { skip, concurrency: true }, () => {
  for (const [name, broken, schedule] of [
    ["no fill-race rule", noFillRaceRule, endDuringFill],
    ["one-way heartbeats", oneWayHeartbeats, endOnSlowConnection],
    ["no flush on a reconnect without a position", noFlushOnReconnect, endWhileCut],
    ["no flush on a reset", noFlushOnReset, endWhileCutAndTrim],
  ] as const) {
    test(`catches a cache with ${name}`, async () => {
      const violations = await play(broken, schedule);
      assert.ok(
        violations.some((violation) => violation.endsWith("later than a lease")),
        "the probe did not catch it",
      );
    });
    test(`passes the real cache where it catches one with ${name}`, async () => {
      assert.deepEqual(await play(CLIENT_PARTS, schedule), []);
    });
  }
});

/** Returns the violations that the probe finds in a client of these parts. */
async function play(parts: ClientParts, schedule: Schedule): Promise<string[]> {
  const proxy = await startClientProxy(authorities.servers[0]!.addresses.grpc!);
  const responses = { delayMs: 0, late: 0 };
  const client = assembleSessionClient(
    { address: proxy.address },
    withLateResponses(parts, () => {
      if (responses.delayMs > 0) responses.late++;
      return responses.delayMs;
    }),
  );
  await until(() => client.statistics().safeForMs > 0, "the client got no lease");
  const probe = startProbe({ client });
  const { session } = await authorities.clients[0]!.createSession({ userId: randomUUID() });
  const id = session!.sessionId;
  const subject = { name: id, id, lookUp: (by: SessionClient) => by.getSession(id) };
  try {
    await schedule({ client, proxy, responses, subject, read: () => void probe.add(subject) });
  } finally {
    await probe.stop();
    client.close();
    await proxy.stop();
  }
  assert.ok(probe.counts.valid + probe.counts.invalid > 0);
  return probe.violations;
}

async function until(done: () => boolean, otherwise: string): Promise<void> {
  for (const deadlineMs = performance.now() + 10_000; !done(); await sleep(5)) {
    if (performance.now() > deadlineMs) assert.fail(otherwise);
  }
}
