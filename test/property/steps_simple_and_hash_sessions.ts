// Steps on sessions by their id: get, validate, change, end, list.

import assert from "node:assert/strict";
import fc from "fast-check";
import { Verdict } from "../../gen/session/v1/session_pb.ts";
import { allPages, outcomeOf, sessionOf, sometimes, stepOf, two, which, type Step } from "./steps_run.ts";
import { data, delta, fields, name, version } from "./steps_values.ts";

const touch = fc.boolean();

const getSession = stepOf("getSession", fc.record({ n: which, touch }), async (run, s) => {
  const sessionId = run.id(s.n);
  const actual = await outcomeOf(sessionOf(run.client.getSession({ sessionId, touch: s.touch })));
  run.assertSame(actual, run.model.validate(sessionId, s.touch));
});

const validation = fc.record({ n: which, touch, includeFields: fc.boolean() });
const validateSession = stepOf("validateSession", validation, async (run, s) => {
  const sessionId = run.id(s.n);
  const { touch, includeFields } = s;
  const { verdict, session } = await run.client.validateSession({ sessionId, touch, includeFields });
  const expected = run.model.validate(sessionId, touch);
  assert.equal(verdict, "value" in expected ? Verdict.VALID : Verdict.INVALID);
  if ("value" in expected) run.assertSame({ value: session! }, expected, includeFields);
  else assert.equal(session, undefined);
});

const updateData = stepOf(
  "updateData",
  fc.record({ n: which, data, merge: fc.boolean(), version, touch }),
  async (run, s) => {
    const sessionId = run.id(s.n);
    const expectedVersion = run.expectedVersion(sessionId, s.version);
    const request = { sessionId, data: s.data as never, merge: s.merge, expectedVersion, touch: s.touch };
    const actual = await outcomeOf(sessionOf(run.client.updateSessionData(request)));
    run.assertSame(actual, run.model.update(sessionId, s.data, s.merge, expectedVersion, s.touch));
  },
);

const setFields = stepOf(
  "setFields",
  fc.record({ n: which, fields, remove: fc.array(name, { maxLength: 2 }), version, touch }),
  async (run, s) => {
    const sessionId = run.id(s.n);
    const expectedVersion = run.expectedVersion(sessionId, s.version);
    const request = { sessionId, fields: s.fields, remove: s.remove, expectedVersion, touch: s.touch };
    const actual = await outcomeOf(sessionOf(run.client.setSessionFields(request)));
    run.assertSame(actual, run.model.setFields(sessionId, s.fields, s.remove, expectedVersion, s.touch));
  },
);

const increment = stepOf("increment", fc.record({ n: which, field: name, delta, touch }), async (run, s) => {
  const sessionId = run.id(s.n);
  const call = run.client.incrementSessionField({ sessionId, field: s.field, delta: s.delta, touch: s.touch });
  const actual = await outcomeOf(call.then((response) => response.value));
  assert.deepEqual(actual, run.model.increment(sessionId, s.field, s.delta, s.touch));
});

const getField = stepOf("getField", fc.record({ n: which, field: name }), async (run, s) => {
  const sessionId = run.id(s.n);
  const actual = await outcomeOf(run.client.getSessionField({ sessionId, field: s.field }));
  const expected = run.model.fields(sessionId);
  if ("error" in expected) assert.deepEqual(actual, expected);
  else assert.equal("value" in actual && actual.value.value, expected.value.fields.get(s.field));
});

const deleteSession = stepOf("deleteSession", which, async (run, n) => {
  const sessionId = run.id(n);
  const { deleted } = await run.client.deleteSession({ sessionId });
  assert.equal(deleted, run.model.end(sessionId, "deleted") !== undefined);
});

const invalidateSession = stepOf("invalidateSession", which, async (run, n) => {
  const sessionId = run.id(n);
  const { deleted } = await run.client.invalidateSession({ sessionId });
  assert.equal(deleted, run.model.end(sessionId, "revoked") !== undefined);
});

const deleteUserSessions = stepOf(
  "deleteUserSessions",
  fc.record({ user: two, except: sometimes(2, which) }),
  async (run, s) => {
    const [userId, exceptSessionId] = [run.user(s.user), s.except === undefined ? "" : run.id(s.except)];
    const { deletedCount } = await run.client.deleteUserSessions({ userId, exceptSessionId });
    assert.equal(deletedCount, run.model.endAllOf(userId, exceptSessionId));
  },
);

const list = stepOf(
  "list",
  fc.record({ user: two, pageSize: fc.integer({ min: 1, max: 3 }), devices: fc.boolean() }),
  async (run, s) => {
    const [userId, pageSize] = [run.user(s.user), s.pageSize];
    const method = s.devices ? run.client.listUserDevices : run.client.listUserSessions;
    const listed = await allPages(async (pageToken) => {
      const page = await method({ userId, pageSize, pageToken });
      return { items: page.sessions, nextPageToken: page.nextPageToken };
    });
    const sessions = run.model.sessionsOf(userId).filter((session) => !s.devices || session.device !== "");
    const expected = sessions.toSorted((x, y) => (x.id < y.id ? -1 : 1));
    assert.equal(listed.length, expected.length);
    expected.forEach((session, i) => run.assertSame({ value: listed[i]! }, { value: session }));
  },
);

export const simpleAndHashSteps: fc.Arbitrary<Step> = fc.oneof(
  { weight: 2, arbitrary: getSession },
  validateSession,
  updateData,
  setFields,
  increment,
  getField,
  deleteSession,
  invalidateSession,
  deleteUserSessions,
  list,
);
