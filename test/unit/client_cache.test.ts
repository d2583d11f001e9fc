// The rules by which the session cache serves from memory, one by one, without a service.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { SessionSchema } from "../../gen/session/v1/session_pb.ts";
import { SessionCache } from "../../src/client/cache.ts";
import { nowMs } from "../../src/client/clock.ts";

const resultOf = (sessionId: string, expiresInMs = 60_000) => ({
  session: create(SessionSchema, { sessionId }),
  expiresInMs,
});

function fill(cache: SessionCache, key: string, sessionId = key, expiresInMs = 60_000): void {
  cache.endFill(key, cache.beginFill(), resultOf(sessionId, expiresInMs));
}

function cacheWithLease(maxEntries = 100): SessionCache {
  const cache = new SessionCache(maxEntries);
  cache.extendLease(nowMs() + 3000);
  return cache;
}

describe("the session cache", () => {
  test("serves only within the lease", (t) => {
    const cache = new SessionCache(100);
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

  test("an older renewal does not shorten the lease", () => {
    const cache = cacheWithLease();
    cache.extendLease(nowMs() - 1000);
    assert.ok(cache.safeForMs > 2000);
  });

  test("an entry expires with its session, counted from when the request was sent", (t) => {
    const cache = cacheWithLease();
    const ticket = cache.beginFill();
    const startMs = performance.now();
    t.mock.method(performance, "now", () => startMs + 900);
    cache.endFill("a", ticket, resultOf("a", 1000));
    assert.equal(cache.lookup("a").kind, "hit");
    t.mock.method(performance, "now", () => startMs + 1001);
    assert.equal(cache.lookup("a").kind, "miss");
    assert.equal(cache.size, 0);
  });

  test("a late fill never overwrites an invalidation, however busy the cache is", () => {
    const cache = cacheWithLease();
    const late = cache.beginFill();
    for (let i = 0; i < 1000; i++) {
      const other = cache.beginFill();
      cache.invalidate(`other-${i}`);
      if (i === 500) cache.invalidate("a");
      cache.endFill(`other-${i}`, other, resultOf(`other-${i}`));
    }
    cache.endFill("a", late, resultOf("a"));
    assert.equal(cache.size, 0);
    fill(cache, "a");
    assert.equal(cache.lookup("a").kind, "hit");
  });

  test("a fill that began after the invalidation is kept", () => {
    const cache = cacheWithLease();
    const older = cache.beginFill();
    cache.invalidate("a");
    const newer = cache.beginFill();
    cache.endFill("a", newer, resultOf("a"));
    assert.equal(cache.lookup("a").kind, "hit");
    cache.abandonFill("b", older);
  });

  test("a reset drops all entries, the lease, and the results of fills under way", () => {
    const cache = cacheWithLease();
    fill(cache, "a");
    const ticket = cache.beginFill();
    cache.clear();
    assert.equal(cache.safeForMs, 0);
    cache.extendLease(nowMs() + 3000);
    cache.endFill("b", ticket, resultOf("b"));
    assert.deepEqual([cache.lookup("a").kind, cache.lookup("b").kind, cache.size], ["miss", "miss", 0]);
  });

  test("a reset of one partition drops its entries and fills under way, and no others", () => {
    const [ofZero, ofOne] = [0, 1].map((partition) => Buffer.alloc(21, partition).toString("base64url"));
    const cache = cacheWithLease();
    fill(cache, ofZero!);
    fill(cache, ofOne!);
    const [lateZero, lateOne] = [cache.beginFill(), cache.beginFill()];
    cache.clearPartition(0);
    cache.endFill("late zero", lateZero, resultOf(ofZero!));
    cache.endFill("late one", lateOne, resultOf(ofOne!));
    assert.deepEqual(
      [ofZero!, ofOne!, "late zero", "late one"].map((key) => cache.lookup(key).kind),
      ["miss", "hit", "miss", "hit"],
    );
  });

  test("an invalidation removes all keys of the session and no others", () => {
    const cache = cacheWithLease();
    fill(cache, "token of a", "a");
    fill(cache, "id of a", "a");
    fill(cache, "b");
    cache.invalidate("a");
    assert.deepEqual(
      ["token of a", "id of a", "b"].map((key) => cache.lookup(key).kind),
      ["miss", "miss", "hit"],
    );
  });

  test("it evicts the least recently used entry when it is full", () => {
    const cache = cacheWithLease(3);
    for (const key of ["a", "b", "c"]) fill(cache, key);
    cache.lookup("a");
    fill(cache, "d");
    assert.equal(cache.size, 3);
    assert.deepEqual(
      ["a", "b", "c", "d"].map((key) => cache.lookup(key).kind),
      ["hit", "miss", "hit", "hit"],
    );
  });

  test("an INVALID response removes the entry; a failed request does not", () => {
    const cache = cacheWithLease();
    fill(cache, "a");
    cache.abandonFill("a", cache.beginFill());
    assert.equal(cache.lookup("a").kind, "hit");
    cache.endFill("a", cache.beginFill(), undefined);
    assert.equal(cache.lookup("a").kind, "miss");
  });

  test("an entry requests a refresh once, and again if the refresh failed", (t) => {
    const cache = cacheWithLease();
    const startMs = performance.now();
    const at = (ms: number) => t.mock.method(performance, "now", () => startMs + ms);
    const needsRefresh = () => {
      const found = cache.lookup("a");
      return found.kind === "hit" && found.needsRefresh;
    };
    fill(cache, "a", "a", 10_000);
    assert.equal(needsRefresh(), false);
    at(1100);
    assert.deepEqual([needsRefresh(), needsRefresh()], [true, false]);
    cache.abandonFill("a", cache.beginFill());
    assert.equal(needsRefresh(), false);
    at(2200);
    assert.equal(needsRefresh(), true);
  });

  // This test is the last, because the clock keeps the time that it gained.
  test("the lease also runs while the machine is suspended", (t) => {
    const cache = cacheWithLease();
    fill(cache, "a");
    assert.equal(cache.lookup("a").kind, "hit");
    const wall = Date.now.bind(Date);
    t.mock.method(Date, "now", () => wall() - 3_600_000);
    assert.equal(cache.lookup("a").kind, "hit");
    t.mock.method(Date, "now", () => wall() + 10_000);
    assert.equal(cache.lookup("a").kind, "bypass");
  });
});
