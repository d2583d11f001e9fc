// The rules by which the cache serves from memory, one by one, without a service.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { SessionSchema } from "../../gen/session/v1/session_pb.ts";
import { createCache, type SessionCache } from "../../src/client/cache.ts";
import { nowMs } from "../../src/client/clock.ts";

const answerOf = (sessionId: string, expiresInMs = 60_000) => ({
  session: create(SessionSchema, { sessionId }),
  expiresInMs,
});

function fill(cache: SessionCache, key: string, sessionId = key, expiresInMs = 60_000): void {
  cache.endFill(key, cache.beginFill(), answerOf(sessionId, expiresInMs));
}

function leased(maxEntries = 100): SessionCache {
  const cache = createCache(maxEntries);
  cache.extendLease(nowMs() + 3000);
  return cache;
}

describe("the cache", () => {
  test("serves only within the lease", (t) => {
    const cache = createCache(100);
    fill(cache, "a");
    assert.equal(cache.lookup("a").kind, "bypass");
    cache.extendLease(nowMs() + 3000);
    assert.equal(cache.lookup("a").kind, "hit");
    t.mock.method(performance, "now", performance.now.bind(performance));
    const later = performance.now() + 3001;
    t.mock.method(performance, "now", () => later);
    assert.equal(cache.lookup("a").kind, "bypass");
    assert.equal(cache.safeForMs, 0);
  });

  test("a lease that is extended by an older renewal does not become shorter", () => {
    const cache = leased();
    cache.extendLease(nowMs() - 1000);
    assert.ok(cache.safeForMs > 2000);
  });

  test("an entry ends with its session, counted from before the call", (t) => {
    const cache = leased();
    const ticket = cache.beginFill();
    const startMs = performance.now();
    t.mock.method(performance, "now", () => startMs + 900);
    cache.endFill("a", ticket, answerOf("a", 1000));
    assert.equal(cache.lookup("a").kind, "hit");
    t.mock.method(performance, "now", () => startMs + 1001);
    assert.equal(cache.lookup("a").kind, "miss");
    assert.equal(cache.size, 0);
  });

  test("a late fill never overwrites an invalidation, however busy the cache is", () => {
    const cache = leased();
    const late = cache.beginFill();
    for (let i = 0; i < 1000; i++) {
      const other = cache.beginFill();
      cache.invalidate(`other-${i}`);
      if (i === 500) cache.invalidate("a");
      cache.endFill(`other-${i}`, other, answerOf(`other-${i}`));
    }
    cache.endFill("a", late, answerOf("a"));
    assert.equal(cache.size, 0);
    fill(cache, "a");
    assert.equal(cache.lookup("a").kind, "hit");
  });

  test("a fill that began after the invalidation is kept", () => {
    const cache = leased();
    const older = cache.beginFill();
    cache.invalidate("a");
    const newer = cache.beginFill();
    cache.endFill("a", newer, answerOf("a"));
    assert.equal(cache.lookup("a").kind, "hit");
    cache.abandonFill("b", older);
  });

  test("a reset drops everything, the lease, and what is under way", () => {
    const cache = leased();
    fill(cache, "a");
    const under = cache.beginFill();
    cache.clear();
    assert.equal(cache.safeForMs, 0);
    cache.extendLease(nowMs() + 3000);
    cache.endFill("b", under, answerOf("b"));
    assert.deepEqual([cache.lookup("a").kind, cache.lookup("b").kind, cache.size], ["miss", "miss", 0]);
  });

  test("a reset of one partition drops its sessions and what is under way of them, and no other", () => {
    const [ofZero, ofOne] = [0, 1].map((partition) => Buffer.alloc(21, partition).toString("base64url"));
    const cache = leased();
    fill(cache, ofZero!);
    fill(cache, ofOne!);
    const [lateZero, lateOne] = [cache.beginFill(), cache.beginFill()];
    cache.clearPartition(0);
    cache.endFill("late zero", lateZero, answerOf(ofZero!));
    cache.endFill("late one", lateOne, answerOf(ofOne!));
    assert.deepEqual(
      [ofZero!, ofOne!, "late zero", "late one"].map((key) => cache.lookup(key).kind),
      ["miss", "hit", "miss", "hit"],
    );
  });

  test("an invalidation ends all keys of the session and no other", () => {
    const cache = leased();
    fill(cache, "token of a", "a");
    fill(cache, "id of a", "a");
    fill(cache, "b");
    cache.invalidate("a");
    assert.deepEqual(
      ["token of a", "id of a", "b"].map((key) => cache.lookup(key).kind),
      ["miss", "miss", "hit"],
    );
  });

  test("it holds no more than its bound; what was used least recently goes first", () => {
    const cache = leased(3);
    for (const key of ["a", "b", "c"]) fill(cache, key);
    cache.lookup("a");
    fill(cache, "d");
    assert.equal(cache.size, 3);
    assert.deepEqual(
      ["a", "b", "c", "d"].map((key) => cache.lookup(key).kind),
      ["hit", "miss", "hit", "hit"],
    );
  });

  test("an invalid answer drops what was there; no answer does not", () => {
    const cache = leased();
    fill(cache, "a");
    cache.abandonFill("a", cache.beginFill());
    assert.equal(cache.lookup("a").kind, "hit");
    cache.endFill("a", cache.beginFill(), undefined);
    assert.equal(cache.lookup("a").kind, "miss");
  });

  test("a refresh is asked for once, and again when it failed", (t) => {
    const cache = leased();
    const startMs = performance.now();
    const at = (ms: number) => t.mock.method(performance, "now", () => startMs + ms);
    const stale = () => {
      const found = cache.lookup("a");
      return found.kind === "hit" && found.stale;
    };
    fill(cache, "a", "a", 10_000);
    assert.equal(stale(), false);
    at(1100);
    assert.deepEqual([stale(), stale()], [true, false]);
    cache.abandonFill("a", cache.beginFill());
    assert.equal(stale(), false);
    at(2200);
    assert.equal(stale(), true);
  });

  // Last: the clock keeps what it gained.
  test("time in which the machine was suspended counts", (t) => {
    const cache = leased();
    fill(cache, "a");
    assert.equal(cache.lookup("a").kind, "hit");
    const wall = Date.now.bind(Date);
    t.mock.method(Date, "now", () => wall() - 3_600_000);
    assert.equal(cache.lookup("a").kind, "hit");
    t.mock.method(Date, "now", () => wall() + 10_000);
    assert.equal(cache.lookup("a").kind, "bypass");
  });
});
