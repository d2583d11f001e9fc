// The messages of a watch: which changes are sent, and with which reason.

import assert from "node:assert/strict";
import { createSecretKey } from "node:crypto";
import { test } from "node:test";
import { InvalidationReason, RevocationReason } from "../../gen/session/v1/session_pb.ts";
import { InvalidationKind } from "../../gen/session/v1/watch_pb.ts";
import { sessionIdOfReference } from "../../src/domain/session_reference.ts";
import type { TokenKeyRing } from "../../src/domain/token.ts";
import type { Change } from "../../src/store/watch_change_log.ts";
import { changeMessage, changeMessages } from "../../src/watch/messages.ts";

function changeOf(reason: string, more: Partial<Change> = {}): Change {
  const session = { sessionId: "B".repeat(28), opener: "id", owner: "a%20c:alice", version: 2n } as const;
  const by = { principal: "backend", actor: "on-call", revocationReason: "" };
  return { partition: 7, id: { epoch: 5, seq: 3 }, reason, ...session, atMs: 1, ...by, ...more };
}

function invalidationOf(reason: string, more?: Partial<Change>) {
  const event = changeMessage(changeOf(reason, more), "id")?.message.event;
  return event?.case === "invalidation" ? event.value : undefined;
}

test("a creation is not sent", () => {
  assert.equal(invalidationOf("created"), undefined);
});

test("an end is sent with its reason, who did it, and the id of the change", () => {
  const invalidation = invalidationOf("revoked", { revocationReason: "account_closed" })!;
  assert.deepEqual([invalidation.kind, invalidation.reason], [InvalidationKind.ENDED, InvalidationReason.REVOKED]);
  assert.equal(invalidation.revocationReason, RevocationReason.ACCOUNT_CLOSED);
  assert.deepEqual([invalidation.changeId, invalidation.userId], ["7-5-3", "alice"]);
  assert.deepEqual([invalidation.principal, invalidation.actor], ["backend", "on-call"]);
});

test("a change is no end and has no reason", () => {
  const { kind, reason } = invalidationOf("changed")!;
  assert.deepEqual([kind, reason], [InvalidationKind.CHANGED, InvalidationReason.UNSPECIFIED]);
});

test("a reason that only a newer instance knows is sent as an end without a reason, and not dropped", () => {
  const { kind, reason } = invalidationOf("compromised_device")!;
  assert.deepEqual([kind, reason], [InvalidationKind.ENDED, InvalidationReason.UNSPECIFIED]);
});

test("a change has one message for all watchers with ids, and one for all with references", () => {
  const key = { kid: 1, key: createSecretKey(Buffer.alloc(32, 1)) };
  const ring: TokenKeyRing = { active: key, verifying: new Map([[1, key]]) };
  const sessionIdOf = (message: ReturnType<typeof changeMessage>) => {
    const event = message!.message.event;
    return event.case === "invalidation" ? event.value.sessionId : undefined;
  };
  const change = changeOf("deleted");
  const messageFor = changeMessages(change, () => ring);
  assert.equal(messageFor(false), messageFor(false));
  assert.equal(messageFor(true), messageFor(true));
  assert.equal(sessionIdOf(messageFor(false)), change.sessionId);
  const reference = sessionIdOf(messageFor(true))!;
  assert.equal(sessionIdOfReference(ring, "a c", reference), change.sessionId);
  // The id of a session that its token opens is sent to everyone, in the same message.
  const ofToken = changeMessages({ ...change, opener: "token" }, () => ring);
  assert.equal(ofToken(true), ofToken(false));
});
