// Steps on sessions of every variant: regenerate, pass a grace, expire, explain, list audit events.

import assert from "node:assert/strict";
import fc from "fast-check";
import { AuditEventType, SessionState } from "../../gen/session/v1/audit_pb.ts";
import { InvalidationReason, LimitPer } from "../../gen/session/v1/session_pb.ts";
import { limit, limitMessage } from "./steps_create.ts";
import {
  ACTOR,
  allPages,
  attempt,
  nameOf,
  outcomeOf,
  sometimes,
  stepOf,
  two,
  userOrNone,
  which,
  type Run,
  type Step,
} from "./steps_run.ts";

const GRACE = { seconds: 60n, nanos: 0 };

const regenerate = stepOf(
  "regenerate",
  fc.record({
    ...{ n: which, byToken: fc.boolean(), grace: fc.boolean(), attempt },
    ...{ user: sometimes(2, two), limit: sometimes(3, limit) },
  }),
  async (run, s) => {
    const [id, token] = [run.id(s.n), run.token(s.n)];
    const credential = s.byToken ? { token: token.token } : { sessionId: id };
    await run.ageRotation(s.byToken ? token.id : id, s.attempt);
    const { requestId } = s.attempt;
    const userId = s.user === undefined ? "" : run.user(s.user);
    // A login has no grace, and only a login has a limit.
    const grace = s.grace && userId === "";
    const limit = userId === "" || s.limit?.per === LimitPer.LABEL ? undefined : s.limit;
    const request = {
      ...{ ...credential, requestId, userId },
      ...(grace && { grace: GRACE }),
      ...(limit && { limit: limitMessage(limit) }),
    };
    const actual = await outcomeOf(run.client.regenerateSession(request));
    const newId = "value" in actual ? actual.value.session!.sessionId : "";
    const expected = run.model.regenerate(
      ...([s.byToken ? token : id, newId, grace, run.nextSecret, s.attempt, userId, limit] as const),
    );
    run.assertSame("value" in actual ? { value: actual.value.session! } : actual, expected);
    if ("value" in actual) run.noteSession(actual.value.session!, actual.value.token);
  },
);

const passGrace = stepOf("passGrace", userOrNone, (run, n) => run.passGrace(run.user(n)));

const expire = stepOf("expire", which, async (run, n) => {
  const session = run.model.expire(run.id(n));
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
  const { state, userId, reason, principal, actor } = await run.client.explainSession({ sessionId });
  const expected = run.model.explain(sessionId);
  const actual = { state: nameOf(SessionState, state), userId, reason: nameOf(InvalidationReason, reason) };
  assert.deepEqual(actual, expected);
  assertDoneBy({ principal, actor }, state === SessionState.ENDED ? expected.reason : undefined);
}

/** What a caller requests to end; everything else that ends a session is a consequence of another call. */
const ENDS = ["deleted", "revoked", "device_revoked", "user_revoked"];

const TIMEOUTS = ["expired", "absolute_timeout"];

/** @param event What ended the session, or any audit event; undefined if the session has not ended. */
function assertDoneBy(actual: { principal: string; actor: string }, event: string | undefined): void {
  const principal = event === undefined || TIMEOUTS.includes(event) ? "" : "anonymous";
  // A RevokeToken with a reused token ends the session as any other use of it does.
  const isNamed = ENDS.includes(event ?? "") || (event === "token_reused" && actual.actor !== "");
  assert.deepEqual(actual, { principal, actor: isNamed ? ACTOR : "" });
}

const audit = fc.record({ user: two, pageSize: fc.constantFrom(3, 1000) }).map(
  (s): Step =>
    (run) =>
      assertAudited(run, run.user(s.user), s.pageSize),
);

/** Asserts one entry for each mutation, in their order. Expiries may be out of order: the sweep writes them. */
async function assertAudited(run: Run, userId: string, pageSize: number): Promise<void> {
  // ExplainSession sweeps the session's partition.
  for (const sessionId of run.unswept) await assertExplained(run, sessionId);
  run.unswept.clear();
  const events = await allPages(async (pageToken) => {
    const page = await run.client.listAuditEvents({ userId, pageSize, pageToken });
    return { items: page.events, nextPageToken: page.nextPageToken };
  });
  assert.ok(events.every((event, i) => i === 0 || event.eventId !== events[i - 1]!.eventId));
  const actual = events.toReversed().map((event) => {
    assert.equal(event.userId, userId);
    const { principal, actor, previousSessionId, deletedCount } = event;
    const type = nameOf(AuditEventType, event.type);
    assertDoneBy({ principal, actor }, type);
    const detail = type === "regenerated" ? previousSessionId : type === "user_revoked" ? String(deletedCount) : "";
    return `${type} ${event.sessionId} ${event.deviceId} ${detail}`;
  });
  const expected = run.model.audit(userId);
  for (const entries of [actual, expected]) sortRevoked(entries);
  const isExpiry = (entry: string) => TIMEOUTS.includes(entry.slice(0, entry.indexOf(" ")));
  assert.deepEqual(
    actual.filter((entry) => !isExpiry(entry)),
    expected.filter((entry) => !isExpiry(entry)),
  );
  assert.deepEqual(actual.filter(isExpiry).toSorted(), expected.filter(isExpiry).toSorted());
}

/** Sorts each row of adjacent revocations: an EndSessions ends sessions in no order. */
function sortRevoked(entries: string[]): void {
  const isRevoked = (entry: string | undefined) => entry?.startsWith("revoked ") ?? false;
  for (let from = 0; from < entries.length; from++) {
    let until = from;
    while (isRevoked(entries[until])) until++;
    entries.splice(from, until - from, ...entries.slice(from, until).toSorted());
    from = until;
  }
}

/** The last step of every run: the trails of both users are complete. */
export const assertAllAudited: Step = async (run) => {
  for (const n of [0, 1]) await assertAudited(run, run.user(n), 1000);
};

export const regenerationAndAuditSteps: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: regenerate },
  { weight: 2, arbitrary: passGrace },
  expire,
  explain,
  audit,
);
