// Steps on secure sessions by their token: validate, rotate, revoke, with the current secret and with old ones.

import assert from "node:assert/strict";
import fc from "fast-check";
import { Verdict } from "../../gen/session/v1/session_pb.ts";
import { ACTOR, attempt, outcomeOf, stepOf, which, type Step } from "./steps_run.ts";

const validateToken = stepOf(
  "validateToken",
  fc.record({ n: which, touch: fc.boolean(), includeFields: fc.boolean() }),
  async (run, { n, touch, includeFields }) => {
    const token = run.token(n);
    const { verdict, session } = await run.client.validateToken({ token: token.token, touch, includeFields });
    const expected = run.model.validateToken(token, touch);
    assert.equal(verdict, "value" in expected ? Verdict.VALID : Verdict.INVALID);
    if ("value" in expected) run.assertSame({ value: session! }, expected, includeFields);
    else assert.equal(session, undefined);
  },
);

/** Several ids and, last, a token in one request. */
const batch = { ids: fc.array(which, { maxLength: 3 }), n: which, touch: fc.boolean() };
const batchValidate = stepOf("batchValidate", fc.record(batch), async (run, s) => {
  const [ids, token] = [s.ids.map((n) => run.id(n)), run.token(s.n)];
  const expected = [...ids.map((id) => run.model.validate(id, false)), run.model.validateToken(token, s.touch)];
  const { results } = await run.client.batchValidate({
    entries: [
      ...ids.map((value) => ({ handle: { case: "sessionId" as const, value } })),
      { handle: { case: "token" as const, value: token.token }, touch: s.touch },
    ],
  });
  assert.equal(results.length, expected.length);
  expected.forEach((outcome, i) => {
    assert.equal(results[i]!.verdict, "value" in outcome ? Verdict.VALID : Verdict.INVALID);
    if ("value" in outcome) run.assertSame({ value: results[i]!.session! }, outcome, false);
  });
});

const rotateToken = stepOf("rotateToken", fc.record({ n: which, attempt }), async (run, s) => {
  const token = run.token(s.n);
  await run.ageRotation(token.id, s.attempt);
  const { requestId } = s.attempt;
  const actual = await outcomeOf(run.client.rotateToken({ token: token.token, requestId }));
  const expected = run.model.rotate(token, run.nextSecret, s.attempt);
  run.assertSame("value" in actual ? { value: actual.value.session! } : actual, expected);
  if ("value" in actual) run.noteSession(actual.value.session!, actual.value.token);
});

const revokeToken = stepOf("revokeToken", which, async (run, n) => {
  const token = run.token(n);
  const { deleted } = await run.client.revokeToken({ token: token.token, actor: ACTOR });
  assert.equal(deleted, run.model.revokeToken(token));
});

const tokenStep = fc.oneof({ weight: 2, arbitrary: validateToken }, rotateToken, revokeToken, batchValidate);

const afterGrace = stepOf("after the grace", tokenStep, async (run, step) => {
  for (const n of [0, 1]) await run.passGrace(run.user(n));
  await step(run);
});

export const secureSteps: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: tokenStep },
  { weight: 2, arbitrary: rotateToken },
  afterGrace,
);
