// The rules by which the session cache serves from memory, one by one, without a service.

import assert from "node:assert/strict";
import { describe, test, type TestContext } from "node:test";
import { create } from "@bufbuild/protobuf";
import { IpBinding, SessionSchema } from "../../gen/session/v1/session_pb.ts";
import { DEAD, SessionCache } from "../../src/client/cache.ts";
import { nowMs } from "../../src/client/clock.ts";

const resultOf = (sessionId: string, expiresInMs = 60_000) => ({
  session: create(SessionSchema, { sessionId }),
  expiresInMs,
});

function fill(cache: SessionCache, key: string, sessionId = key, expiresInMs = 60_000): void {
  cache.endFill(key, "", cache.beginFill(), resultOf(sessionId, expiresInMs));
}

function cacheWithLease(maxEntries = 100): SessionCache {
  const cache = new SessionCache(maxEntries);
  cache.extendLease(nowMs() + 3000);
  return cache;
}

/** Stops the monotonic clock. Returns a function that sets it to so many ms after that. */
function stopClock(t: TestContext): (ms: number) => void {
  const startMs = performance.now();
  let aheadMs = 0;
  // One mock for all times: of several mocks of one method, the first would stay behind.
  t.mock.method(performance, "now", () => startMs + aheadMs);
  return (ms) => void (aheadMs = ms);
}

describe("the session cache", () => {
  test("serves only within the lease", (t) => {
    const cache = new SessionCache(100);
    fill(cache, "a");
    assert.equal(cache.lookup("a", "").kind, "bypass");
    cache.extendLease(nowMs() + 3000);
    assert.equal(cache.lookup("a", "").kind, "hit");
    stopClock(t)(3001);
    assert.equal(cache.lookup("a", "").kind, "bypass");
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
    const at = stopClock(t);
    at(900);
    cache.endFill("a", "", ticket, resultOf("a", 1000));
    assert.equal(cache.lookup("a", "").kind, "hit");
    at(1001);
    assert.equal(cache.lookup("a", "").kind, "miss");
    assert.equal(cache.size, 0);
  });

  test("a late fill never overwrites an invalidation, however busy the cache is", () => {
    const cache = cacheWithLease();
    const late = cache.beginFill();
    for (let i = 0; i < 1000; i++) {
      const other = cache.beginFill();
      cache.invalidate(`other-${i}`);
      if (i === 500) cache.invalidate("a");
      cache.endFill(`other-${i}`, "", other, resultOf(`other-${i}`));
    }
    cache.endFill("a", "", late, resultOf("a"));
    assert.equal(cache.size, 0);
    fill(cache, "a");
    assert.equal(cache.lookup("a", "").kind, "hit");
  });

  test("a fill that began after the invalidation is kept", () => {
    const cache = cacheWithLease();
    const older = cache.beginFill();
    cache.invalidate("a");
    const newer = cache.beginFill();
    cache.endFill("a", "", newer, resultOf("a"));
    assert.equal(cache.lookup("a", "").kind, "hit");
    cache.abandonFill("b", "", older);
  });

  test("a reset drops all entries, the lease, and the results of fills under way", () => {
    const cache = cacheWithLease();
    fill(cache, "a");
    const ticket = cache.beginFill();
    cache.clear();
    assert.equal(cache.safeForMs, 0);
    cache.extendLease(nowMs() + 3000);
    cache.endFill("b", "", ticket, resultOf("b"));
    assert.deepEqual([cache.lookup("a", "").kind, cache.lookup("b", "").kind, cache.size], ["miss", "miss", 0]);
  });

  test("a reset of one partition drops its entries and fills under way, and no others", () => {
    const [ofZero, ofOne] = [0, 1].map((partition) => Buffer.alloc(21, partition).toString("base64url"));
    const cache = cacheWithLease();
    fill(cache, ofZero!);
    fill(cache, ofOne!);
    const [lateZero, lateOne] = [cache.beginFill(), cache.beginFill()];
    cache.clearPartition(0);
    cache.endFill("late zero", "", lateZero, resultOf(ofZero!));
    cache.endFill("late one", "", lateOne, resultOf(ofOne!));
    assert.deepEqual(
      [ofZero!, ofOne!, "late zero", "late one"].map((key) => cache.lookup(key, "").kind),
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
      ["token of a", "id of a", "b"].map((key) => cache.lookup(key, "").kind),
      ["miss", "miss", "hit"],
    );
  });

  test("it evicts the least recently used entry when it is full", () => {
    const cache = cacheWithLease(3);
    for (const key of ["a", "b", "c"]) fill(cache, key);
    cache.lookup("a", "");
    fill(cache, "d");
    assert.equal(cache.size, 3);
    assert.deepEqual(
      ["a", "b", "c", "d"].map((key) => cache.lookup(key, "").kind),
      ["hit", "miss", "hit", "hit"],
    );
  });

  test("an INVALID response removes the entry; a failed request does not", () => {
    const cache = cacheWithLease();
    fill(cache, "a");
    cache.abandonFill("a", "", cache.beginFill());
    assert.equal(cache.lookup("a", "").kind, "hit");
    cache.endFill("a", "", cache.beginFill(), DEAD);
    assert.equal(cache.lookup("a", "").kind, "dead");
    assert.equal(cache.size, 0);
  });

  test("an entry requests a refresh once, and again if the refresh failed", (t) => {
    const cache = cacheWithLease();
    const at = stopClock(t);
    const needsRefresh = () => {
      const found = cache.lookup("a", "");
      return found.kind === "hit" && found.needsRefresh;
    };
    fill(cache, "a", "a", 10_000);
    assert.equal(needsRefresh(), false);
    at(1100);
    assert.deepEqual([needsRefresh(), needsRefresh()], [true, false]);
    cache.abandonFill("a", "", cache.beginFill());
    assert.equal(needsRefresh(), false);
    at(2200);
    assert.equal(needsRefresh(), true);
  });

  test("a session that compares addresses is served to the address that was validated only", () => {
    const cache = cacheWithLease();
    const bound = {
      session: create(SessionSchema, { sessionId: "a", ipBinding: IpBinding.WARN }),
      expiresInMs: 60_000,
    };
    cache.endFill("a", "192.0.2.1", cache.beginFill(), bound);
    assert.deepEqual(
      ["192.0.2.1", "192.0.2.2", ""].map((address) => cache.lookup("a", address).kind),
      ["hit", "miss", "miss"],
    );
    fill(cache, "b");
    for (let n = 0; n < 5000; n++) assert.equal(cache.lookup("b", `198.51.100.${n}`).kind, "hit");
    assert.equal(cache.size, 2);
    cache.invalidate("a");
    assert.equal(cache.lookup("a", "192.0.2.1").kind, "miss");
  });

  test("a handle that opened no session is dead for 5 s, even without a lease, and displaces no session", (t) => {
    const cache = cacheWithLease(3);
    fill(cache, "a");
    for (let n = 0; n < 5000; n++) cache.endFill(`dead-${n}`, "", cache.beginFill(), DEAD);
    const kinds = () => ["a", "dead-0", "dead-4999"].map((handle) => cache.lookup(handle, "").kind);
    assert.deepEqual(kinds(), ["hit", "miss", "dead"]);
    const at = stopClock(t);
    at(4000);
    assert.deepEqual(kinds(), ["bypass", "bypass", "dead"]);
    at(5100);
    assert.deepEqual(kinds(), ["bypass", "bypass", "bypass"]);
    at(0);
    cache.endFill("dead again", "", cache.beginFill(), DEAD);
    cache.clear();
    assert.equal(cache.lookup("dead again", "").kind, "bypass");
  });

  // The next tests are the last, because the clock keeps the time that it gained.
  test("the lease runs while the machine is suspended right after the wall clock was set back (cases/watch.md 6)", (t) => {
    const wall = Date.now.bind(Date);
    let aheadMs = 0;
    t.mock.method(Date, "now", () => wall() + aheadMs);
    for (const setBackMs of [60_000, 5_000, 3_600_000]) {
      const cache = cacheWithLease();
      fill(cache, "a");
      aheadMs -= setBackMs;
      assert.equal(cache.lookup("a", "").kind, "hit");
      aheadMs += 4000;
      assert.equal(cache.lookup("a", "").kind, "bypass", `set back by ${setBackMs} ms`);
    }
  });

  test("a clock whose readings jitter does not run ahead", (t) => {
    const [wall, startMs] = [Date.now.bind(Date), performance.now()];
    const beganMs = nowMs();
    let n = 0;
    t.mock.method(Date, "now", () => wall() + (n++ % 2) * 5);
    for (let i = 0; i < 10_000; i++) nowMs();
    assert.ok(nowMs() - beganMs - (performance.now() - startMs) < 50);
  });

  test("the lease also runs while the machine is suspended", (t) => {
    const cache = cacheWithLease();
    fill(cache, "a");
    assert.equal(cache.lookup("a", "").kind, "hit");
    const wall = Date.now.bind(Date);
    let aheadMs = -3_600_000;
    t.mock.method(Date, "now", () => wall() + aheadMs);
    assert.equal(cache.lookup("a", "").kind, "hit");
    aheadMs = 10_000;
    assert.equal(cache.lookup("a", "").kind, "bypass");
  });
});
