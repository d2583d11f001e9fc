// Steps on sessions of every variant: regenerate, let time pass, explain, read the audit trail.

import assert from "node:assert/strict";
import fc from "fast-check";
import { AuditEventType, SessionState } from "../../gen/session/v1/audit_pb.ts";
import { InvalidationReason } from "../../gen/session/v1/session_pb.ts";
import { allPages, nameOf, outcomeOf, stepOf, two, which, type Run, type Step } from "./steps_run.ts";

const GRACE = { seconds: 60n, nanos: 0 };

const regenerate = stepOf(
  "regenerate",
  fc.record({ n: which, byToken: fc.boolean(), grace: fc.boolean() }),
  async (run, s) => {
    const [id, token] = [run.id(s.n), run.token(s.n)];
    const shown = s.byToken ? { token: token.token } : { sessionId: id };
    const actual = await outcomeOf(run.client.regenerateSession({ ...shown, ...(s.grace && { grace: GRACE }) }));
    const newId = "value" in actual ? actual.value.session!.sessionId : "";
    if (newId !== "") assert.ok(!run.ids.includes(newId), "an id was used twice");
    const expected = run.model.regenerate(s.byToken ? token : id, newId, s.grace, run.nextSecret);
    run.assertSame("value" in actual ? { value: actual.value.session! } : actual, expected);
    if ("value" in actual) run.noteAnswer(actual.value.session!, actual.value.token);
  },
);

const passGrace = stepOf("passGrace", two, (run, n) => run.passGrace(run.user(n)));

const expire = stepOf("expire", which, async (run, n) => {
  const session = run.model.end(run.id(n), "expired");
  if (!session) return;
  await run.authorities.expireNow(session.id);
  run.unswept.add(session.id);
});

const explain = which.map(
  (n): Step =>
    (run) =>
      assertExplained(run, run.id(n)),
);

async function assertExplained(run: Run, sessionId: string): Promise<void> {
  const { state, userId, reason, actor } = await run.client.explainSession({ sessionId });
  const expected = run.model.explain(sessionId);
  const actual = { state: nameOf(SessionState, state), userId, reason: nameOf(InvalidationReason, reason) };
  assert.deepEqual(actual, expected);
  assert.equal(actor, state === SessionState.ENDED && expected.reason !== "expired" ? "anonymous" : "");
}

const audit = fc.record({ user: two, pageSize: fc.constantFrom(3, 1000) }).map(
  (s): Step =>
    (run) =>
      assertAudited(run, run.user(s.user), s.pageSize),
);

/** Exactly one entry for each mutation, in their order; the sweep tells of expiries when it comes across them. */
async function assertAudited(run: Run, userId: string, pageSize: number): Promise<void> {
  // To explain a session sweeps its partition.
  for (const sessionId of run.unswept) await assertExplained(run, sessionId);
  run.unswept.clear();
  const events = await allPages(async (pageToken) => {
    const page = await run.client.listAuditEvents({ userId, pageSize, pageToken });
    return { items: page.events, nextPageToken: page.nextPageToken };
  });
  assert.ok(events.every((event, i) => i === 0 || event.eventId !== events[i - 1]!.eventId));
  const actual = events.toReversed().map((event) => {
    assert.equal(event.userId, userId);
    return `${nameOf(AuditEventType, event.type)} ${event.sessionId} ${event.deviceId}`;
  });
  const expected = run.model.audit(userId);
  const isExpiry = (entry: string) => entry.startsWith("expired ");
  assert.deepEqual(
    actual.filter((entry) => !isExpiry(entry)),
    expected.filter((entry) => !isExpiry(entry)),
  );
  assert.deepEqual(actual.filter(isExpiry).toSorted(), expected.filter(isExpiry).toSorted());
}

/** What ends every run: the trails of both users tell all of it. */
export const assertAllAudited: Step = async (run) => {
  for (const n of [0, 1]) await assertAudited(run, run.user(n), 1000);
};

export const securitySteps: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: regenerate },
  { weight: 2, arbitrary: passGrace },
  expire,
  explain,
  audit,
);
