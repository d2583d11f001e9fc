// Steps that change a living session (UpdateSession, RecordAuthentication), and steps across users (ListSessions, EndSessions).

import assert from "node:assert/strict";
import fc from "fast-check";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { DAY_MS, LIMIT_LABEL } from "./sessions_model_values.ts";
import { app, labels } from "./steps_create.ts";
import {
  ACTOR,
  anyUser,
  allPages,
  attempt,
  outcomeOf,
  sessionOf,
  sometimes,
  stepOf,
  userOf,
  which,
  type Run,
  type Step,
} from "./steps_run.ts";
import { version } from "./steps_values.ts";

const update = fc.record({
  idleMs: sometimes(2, fc.constantFrom(DAY_MS, DAY_MS / 24)),
  // Shorter and longer than the default of 30 d; the shortest is reached before the idle timeout.
  absoluteMs: sometimes(2, fc.constantFrom(DAY_MS / 12, 10 * DAY_MS, 60 * DAY_MS)),
  labels: sometimes(2, labels),
  deviceName: sometimes(3, fc.string({ maxLength: 20 })),
});

const updateSession = stepOf(
  "updateSession",
  fc.record({ n: which, of: anyUser, version, update }),
  async (run, { n, of, version, update }) => {
    const [sessionId, userId] = [run.id(n), userOf(run, of)];
    const { idleMs, absoluteMs, labels, deviceName } = update;
    const paths = [
      ...(idleMs === undefined ? [] : ["idle_timeout"]),
      ...(absoluteMs === undefined ? [] : ["absolute_expire_time"]),
      ...(labels === undefined ? [] : ["labels"]),
      ...(deviceName === undefined ? [] : ["device_name"]),
    ];
    if (paths.length === 0) return;
    const expectedVersion = run.expectedVersion(sessionId, version);
    const request = {
      ...{ sessionId, userId, expectedVersion, updateMask: { paths } },
      ...(idleMs !== undefined && { idleTimeout: durationFromMs(idleMs) }),
      ...(absoluteMs !== undefined && { absoluteExpireTime: run.afterCreation(sessionId, absoluteMs) }),
      ...(labels && { labels }),
      ...(deviceName !== undefined && { deviceName }),
    };
    const actual = await outcomeOf(sessionOf(run.client.updateSession(request)));
    run.assertSame(actual, run.model.updateSession(sessionId, userId, update, expectedVersion));
  },
);

const recordAuthentication = stepOf(
  "recordAuthentication",
  fc.record({
    ...{ n: which, of: anyUser, byToken: fc.boolean(), rotate: fc.boolean(), attempt },
    level: fc.integer({ min: 1, max: 3 }),
  }),
  async (run, s) => {
    const [id, token, userId] = [run.id(s.n), run.token(s.n), userOf(run, s.of)];
    const rotate = s.byToken && s.rotate;
    if (rotate) await run.ageRotation(token.id, s.attempt);
    const actual = await outcomeOf(
      run.client.recordAuthentication({
        ...(s.byToken ? { token: token.token } : { sessionId: id }),
        ...{ userId, rotate, authentication: { level: s.level }, requestId: s.attempt.requestId },
      }),
    );
    const expected = run.model.recordAuthentication(
      ...([s.byToken ? token : id, userId, s.level, rotate ? run.nextSecret : undefined, s.attempt] as const),
    );
    run.assertSame("value" in actual ? { value: actual.value.session! } : actual, expected);
    if ("value" in actual) run.noteSession(actual.value.session!, actual.value.token);
  },
);

const filter = fc.record({ users: fc.constantFrom<number[]>([0], [1], [0, 1]), app: sometimes(2, app) });
const filterOf = (run: Run, s: { users: number[]; app: string | undefined }) => ({
  userIds: s.users.map((n) => run.user(n)),
  labels: { ...(s.app !== undefined && { [LIMIT_LABEL]: s.app }) },
});

const listSessions = stepOf(
  "listSessions",
  fc.record({ filter, pageSize: fc.integer({ min: 1, max: 3 }) }),
  async (run, s) => {
    const filter = filterOf(run, s.filter);
    const listed = await allPages(async (pageToken) => {
      const page = await run.client.listSessions({ filter, pageSize: s.pageSize, pageToken, includeData: true });
      return { items: page.sessions, nextPageToken: page.nextPageToken };
    });
    const actual = listed.map(({ session }) => session!).toSorted((x, y) => (x.sessionId < y.sessionId ? -1 : 1));
    const selected = run.model.select(filter.userIds, s.filter.app);
    const expected = selected.toSorted((x, y) => (x.id < y.id ? -1 : 1));
    assert.equal(actual.length, expected.length);
    expected.forEach((session, i) => run.assertSame({ value: actual[i]! }, { value: session }, false));
  },
);

const endSessions = stepOf("endSessions", fc.record({ filter, dryRun: fc.boolean() }), async (run, s) => {
  const filter = filterOf(run, s.filter);
  const selected = run.model.select(filter.userIds, s.filter.app);
  const { endedCount } = await run.client.endSessions({ filter, dryRun: s.dryRun, actor: ACTOR });
  assert.equal(endedCount, BigInt(selected.length));
  if (!s.dryRun) for (const { id } of selected) run.model.end(id, "revoked");
});

export const updateSteps: fc.Arbitrary<Step> = fc.oneof(updateSession, recordAuthentication);
export const adminSteps: fc.Arbitrary<Step> = fc.oneof({ weight: 2, arbitrary: listSessions }, endSessions);
