// The messages of a watch: which changes are sent, and with which reason.

import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidationReason } from "../../gen/session/v1/session_pb.ts";
import type { Change } from "../../src/store/watch_change_log.ts";
import { changeMessage } from "../../src/watch/messages.ts";

function invalidationOf(reason: string) {
  const change: Change = {
    partition: 7,
    id: { epoch: 5, seq: 3 },
    reason,
    sessionId: "id",
    owner: "default:alice",
    version: 2n,
    atMs: 1,
    actor: "on-call",
  };
  const event = changeMessage(change)?.message.event;
  return event?.case === "invalidation" ? event.value : undefined;
}

test("a creation is not sent", () => {
  assert.equal(invalidationOf("created"), undefined);
});

test("an end is sent with its reason and the id of the change", () => {
  const invalidation = invalidationOf("device_revoked")!;
  assert.equal(invalidation.reason, InvalidationReason.DEVICE_REVOKED);
  assert.deepEqual([invalidation.changeId, invalidation.userId], ["7-5-3", "alice"]);
});

test("a reason that only a newer instance knows is sent as UNSPECIFIED, and not dropped", () => {
  assert.equal(invalidationOf("compromised_device")?.reason, InvalidationReason.UNSPECIFIED);
});
