// Steps on sessions by their id: get, validate, change, end, list.

import assert from "node:assert/strict";
import fc from "fast-check";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { ListOrder, Verdict } from "../../gen/session/v1/session_pb.ts";
import {
  ACTOR,
  anyUser,
  allPages,
  outcomeOf,
  sessionOf,
  sometimes,
  stepOf,
  two,
  userOf,
  which,
  type Step,
} from "./steps_run.ts";
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
  fc.record({ n: which, of: anyUser, data, merge: fc.boolean(), version, touch }),
  async (run, s) => {
    const [sessionId, userId] = [run.id(s.n), userOf(run, s.of)];
    const expectedVersion = run.expectedVersion(sessionId, s.version);
    const request = { sessionId, userId, data: s.data as never, merge: s.merge, expectedVersion, touch: s.touch };
    const actual = await outcomeOf(sessionOf(run.client.updateSessionData(request)));
    run.assertSame(actual, run.model.update(sessionId, userId, s.data, s.merge, expectedVersion, s.touch));
  },
);

const setFields = stepOf(
  "setFields",
  fc.record({ n: which, of: anyUser, fields, remove: fc.array(name, { maxLength: 2 }), version, touch }),
  async (run, s) => {
    const [sessionId, userId] = [run.id(s.n), userOf(run, s.of)];
    const expectedVersion = run.expectedVersion(sessionId, s.version);
    const request = { sessionId, userId, fields: s.fields, remove: s.remove, expectedVersion, touch: s.touch };
    const actual = await outcomeOf(sessionOf(run.client.setSessionFields(request)));
    run.assertSame(actual, run.model.setFields(sessionId, userId, s.fields, s.remove, expectedVersion, s.touch));
  },
);

const increment = stepOf(
  "increment",
  fc.record({ n: which, of: anyUser, field: name, delta, touch }),
  async (run, s) => {
    const [sessionId, userId] = [run.id(s.n), userOf(run, s.of)];
    const { field, delta, touch } = s;
    const call = run.client.incrementSessionField({ sessionId, userId, field, delta, touch });
    const actual = await outcomeOf(call.then((response) => response.value));
    assert.deepEqual(actual, run.model.increment(sessionId, userId, field, delta, touch));
  },
);

const getField = stepOf("getField", fc.record({ n: which, field: name }), async (run, s) => {
  const sessionId = run.id(s.n);
  const actual = await outcomeOf(run.client.getSessionField({ sessionId, field: s.field }));
  const expected = run.model.fields(sessionId);
  if ("error" in expected) assert.deepEqual(actual, expected);
  else assert.equal("value" in actual && actual.value.value, expected.value.fields.get(s.field));
});

const deleteSession = stepOf("deleteSession", fc.record({ n: which, of: anyUser }), async (run, s) => {
  const [sessionId, userId] = [run.id(s.n), userOf(run, s.of)];
  const { deleted } = await run.client.deleteSession({ sessionId, userId, actor: ACTOR });
  assert.equal(deleted, run.model.end(sessionId, "deleted", userId) !== undefined);
});

const invalidateSession = stepOf("invalidateSession", fc.record({ n: which, of: anyUser }), async (run, s) => {
  const [sessionId, userId] = [run.id(s.n), userOf(run, s.of)];
  const { deleted } = await run.client.invalidateSession({ sessionId, userId, actor: ACTOR });
  assert.equal(deleted, run.model.end(sessionId, "revoked", userId) !== undefined);
});

const deleteUserSessions = stepOf(
  "deleteUserSessions",
  fc.record({ user: two, except: sometimes(2, which) }),
  async (run, s) => {
    const [userId, exceptSessionId] = [run.user(s.user), s.except === undefined ? "" : run.id(s.except)];
    const { deletedCount } = await run.client.deleteUserSessions({ userId, exceptSessionId, actor: ACTOR });
    assert.equal(deletedCount, run.model.endAllOf(userId, exceptSessionId));
  },
);

const list = stepOf(
  "list",
  fc.record({ user: two, pageSize: fc.integer({ min: 1, max: 3 }), devices: fc.boolean(), newest: fc.boolean() }),
  async (run, s) => {
    const [userId, pageSize] = [run.user(s.user), s.pageSize];
    const method = s.devices ? run.client.listUserDevices : run.client.listUserSessions;
    const order = s.newest ? ListOrder.NEWEST_FIRST : ListOrder.UNSPECIFIED;
    const inOrder = await allPages(async (pageToken) => {
      const page = await method({ userId, pageSize, pageToken, order });
      return { items: page.sessions, nextPageToken: page.nextPageToken };
    });
    const sessions = run.model.sessionsOf(userId).filter((session) => !s.devices || session.device !== "");
    const times = inOrder.map(({ createTime }) => timestampMs(createTime!) * (s.newest ? -1 : 1));
    assert.deepEqual(
      times,
      times.toSorted((x, y) => x - y),
    );
    // The model does not know the order of sessions that were created in the same millisecond.
    const listed = inOrder.toSorted((x, y) => (x.sessionId < y.sessionId ? -1 : 1));
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
