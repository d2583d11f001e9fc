// Caches that are broken on purpose are caught by the staleness probe; the real one passes the same schedules.

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
import { withLateAnswers } from "../helpers/late_responses.ts";
import { startLink, type Link } from "../helpers/client_link.ts";
import { LEASE_MS, startProbe, type Subject } from "../helpers/staleness_probe.ts";

const skip = redisServerMissing();
let authorities: Authorities;

before(async () => {
  if (!skip) authorities = await startAuthorities();
});
after(() => authorities?.close());

type Scene = {
  readonly client: SessionClient;
  readonly link: Link;
  /** How late lookups are answered, and how many were. */
  readonly answers: { delayMs: number; late: number };
  readonly subject: Subject & { id: string };
  /** Lets the probe's readers ask for the session. */
  readonly read: () => void;
};
type Schedule = (scene: Scene) => Promise<void>;

const end = async (subject: Subject & { id: string }) => {
  await authorities.clients[0]!.invalidateSession({ sessionId: subject.id });
  subject.endedMs = performance.now();
};

/** The session ends while the answer to a question about it is on its way. */
const endDuringFill: Schedule = async ({ client, answers, subject, read }) => {
  answers.delayMs = 500;
  const asked = subject.lookUp(client);
  await until(() => answers.late > 0, "nothing was asked");
  answers.delayMs = 0;
  await end(subject);
  await asked;
  read();
  await sleep(LEASE_MS + 500);
};

/** What the service sends arrives late, in order and without a loss; meanwhile the session ends. */
const endOnSlowLink: Schedule = async ({ client, link, subject, read }) => {
  read();
  await until(() => client.statistics().hits > 10, "nothing was found in memory");
  link.delay("toClient", 4200);
  await sleep(4700);
  await end(subject);
  await sleep(LEASE_MS + 1500);
  link.delay("toClient", 0);
};

/** The session ends while the link is down. */
const endWhileCut: Schedule = async ({ client, link, subject, read }) => {
  read();
  await until(() => client.statistics().hits > 10, "nothing was found in memory");
  link.cut(true);
  await end(subject);
  link.restore();
  await sleep(LEASE_MS + 2000);
};

/** And the log forgets it before the link is up again. */
const endWhileCutAndTrim: Schedule = async ({ client, link, subject, read }) => {
  read();
  await until(() => client.statistics().hits > 10, "nothing was found in memory");
  const [key] = await authorities.keysOfSession(subject.id);
  link.cut(true);
  await end(subject);
  await authorities.control.sendCommand(["XTRIM", key!.replace(/:s:.*$/, ":log"), "MAXLEN", "0"]);
  link.restore();
  await sleep(LEASE_MS + 2000);
};

describe("the staleness probe", { skip, concurrency: true }, () => {
  for (const [name, broken, schedule] of [
    ["no fill-race rule", noFillRaceRule, endDuringFill],
    ["one-way heartbeats", oneWayHeartbeats, endOnSlowLink],
    ["no flush on a reconnect without a position", noFlushOnReconnect, endWhileCut],
    ["no flush on a reset", noFlushOnReset, endWhileCutAndTrim],
  ] as const) {
    test(`catches a cache with ${name}`, async () => {
      const violations = await play(broken, schedule);
      assert.ok(
        violations.some((violation) => violation.endsWith("later than a lease")),
        "it was not caught",
      );
    });
    test(`passes the real cache where it catches one with ${name}`, async () => {
      assert.deepEqual(await play(CLIENT_PARTS, schedule), []);
    });
  }
});

/** What the probe says of a client of these parts. */
async function play(parts: ClientParts, schedule: Schedule): Promise<string[]> {
  const link = await startLink(authorities.servers[0]!.addresses.grpc!);
  const answers = { delayMs: 0, late: 0 };
  const client = assembleSessionClient(
    { address: link.address },
    withLateAnswers(parts, () => {
      if (answers.delayMs > 0) answers.late++;
      return answers.delayMs;
    }),
  );
  await until(() => client.statistics().safeForMs > 0, "it got no lease");
  const probe = startProbe({ client });
  const { session } = await authorities.clients[0]!.createSession({ userId: randomUUID() });
  const id = session!.sessionId;
  const subject = { name: id, id, lookUp: (by: SessionClient) => by.getSession(id) };
  try {
    await schedule({ client, link, answers, subject, read: () => void probe.add(subject) });
  } finally {
    await probe.stop();
    client.close();
    await link.stop();
  }
  assert.ok(probe.counts.valid + probe.counts.invalid > 0);
  return probe.violations;
}

async function until(done: () => boolean, otherwise: string): Promise<void> {
  for (const deadlineMs = performance.now() + 10_000; !done(); await sleep(5)) {
    if (performance.now() > deadlineMs) assert.fail(otherwise);
  }
}
