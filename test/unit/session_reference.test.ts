// Session references: the same for the same session under one key, bound to the tenant, and refused unless a key of the ring made
// them.

import assert from "node:assert/strict";
import { createSecretKey, randomBytes } from "node:crypto";
import { test } from "node:test";
import { newSessionId, partitionOfSessionId } from "../../src/domain/session_id.ts";
import { sessionIdOfReference, sessionReference } from "../../src/domain/session_reference.ts";
import type { TokenKey, TokenKeyRing } from "../../src/domain/token.ts";

const newKey = (kid: number): TokenKey => ({ kid, key: createSecretKey(randomBytes(32)) });
const ringOf = (active: TokenKey, ...others: TokenKey[]): TokenKeyRing => {
  return { active, verifying: new Map([active, ...others].map((key) => [key.kid, key])) };
};
const [first, second] = [newKey(1), newKey(2)];
const ring = ringOf(first);

test("a reference leads back to its session, is the same each time, and is no session id", () => {
  for (let partition = 0; partition < 256; partition++) {
    const id = newSessionId(partition);
    const reference = sessionReference(ring, "acme", id);
    assert.match(reference, /^ref_[A-Za-z0-9_-]{52}$/);
    assert.equal(sessionReference(ring, "acme", id), reference);
    assert.equal(sessionIdOfReference(ring, "acme", reference), id);
    assert.equal(partitionOfSessionId(reference), undefined);
    assert.ok(!reference.includes(id.slice(2)));
  }
});

test("the partition of a session, which its id begins with, is not in its reference", () => {
  const beginnings = Array.from({ length: 50 }, () => sessionReference(ring, "acme", newSessionId(7)).slice(8, 14));
  assert.equal(new Set(beginnings).size, 50);
});

test("a reference of another tenant, of an unknown or another key, and any changed one is refused", () => {
  const id = newSessionId(7);
  const reference = sessionReference(ring, "acme", id);
  assert.equal(sessionIdOfReference(ring, "globex", reference), undefined);
  assert.equal(sessionIdOfReference(ringOf(second), "acme", reference), undefined);
  assert.equal(sessionIdOfReference(ringOf({ ...second, kid: 1 }), "acme", reference), undefined);
  const bytes = Buffer.from(reference.slice(4), "base64url");
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const changed = Buffer.from(bytes);
    changed[bit >> 3]! ^= 1 << (bit & 7);
    assert.equal(sessionIdOfReference(ring, "acme", `ref_${changed.toString("base64url")}`), undefined, `bit ${bit}`);
  }
  for (const text of [
    "",
    "ref_",
    id,
    `ref_${id}`,
    `${reference}A`,
    reference.slice(0, -1),
    `rfe_${reference.slice(4)}`,
  ]) {
    assert.equal(sessionIdOfReference(ring, "acme", text), undefined, text);
  }
  assert.equal(sessionIdOfReference(ring, "acme", `${reference.slice(0, -1)}=`), undefined);
});

test("after a rotation of the keys old references lead back as long as their key verifies, and new ones differ", () => {
  const id = newSessionId(7);
  const old = sessionReference(ring, "acme", id);
  const rotated = ringOf(second, first);
  assert.notEqual(sessionReference(rotated, "acme", id), old);
  for (const reference of [old, sessionReference(rotated, "acme", id)]) {
    assert.equal(sessionIdOfReference(rotated, "acme", reference), id);
  }
});

test("references of different sessions and tenants differ", () => {
  const ids = Array.from({ length: 100 }, () => newSessionId(7));
  const references = ["a", "b"].flatMap((tenant) => ids.map((id) => sessionReference(ring, tenant, id)));
  assert.equal(new Set(references).size, 200);
});
