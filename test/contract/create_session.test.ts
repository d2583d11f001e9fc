// The fields that every Create has, as the contract describes them: limits, the create rate, the time of the login, timeouts.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { timestampFromMs, timestampMs, type Timestamp } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { InvalidationReason, OnExceed } from "../../gen/session/v1/session_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import type { AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

const skip = redisServerMissing();
const limitReached = { code: status.RESOURCE_EXHAUSTED, reason: "SESSION_LIMIT_REACHED" };
const evict = (maxSessions: number) => ({ limit: { maxSessions, onExceed: OnExceed.EVICT_OLDEST } });
const reject = (maxSessions: number) => ({ limit: { maxSessions, onExceed: OnExceed.REJECT } });

let authorities: Authorities;
let client: AuthorityClient;
/** Has a limit and a create rate of the server's. */
let capped: Authorities;

before(async () => {
  if (skip) return;
  authorities = await startAuthorities({ touchIntervalMs: 0 });
  client = authorities.clients[0]!;
  const env = { SA_MAX_SESSIONS_PER_USER: "2", SA_ON_EXCEED: "evict", SA_CREATE_RATE: "4/1h" };
  capped = await startAuthorities({ touchIntervalMs: 0, env });
});
after(async () => {
  if (skip) return;
  for (const each of [authorities, capped]) {
    await each.assertStoreSound();
    await each.close();
  }
});

/** Fields that every Create has. */
type Request = {
  readonly userId: string;
  readonly limit?: { readonly maxSessions: number; readonly onExceed?: OnExceed };
  readonly requestId?: string;
  readonly authentication?: { readonly time?: Timestamp };
  readonly idleTimeout?: { readonly seconds: bigint; readonly nanos: number };
  readonly ipAddress?: string;
  readonly userAgent?: string;
};

/** Creates a session of the n-th variant, in turn. Returns its id. */
async function create(n: number, request: Request, of = authorities): Promise<string> {
  const to = of.clients[0]!;
  const device = { deviceId: `device ${n}`, ipAddress: request.ipAddress };
  const creates = [
    () => to.createSession(request),
    () => to.createHashSession(request),
    () => to.createSecureSession(request),
    () => to.createDeviceSession({ ...request, device }),
  ];
  await of.nextMs();
  return (await creates[n % 4]!()).session!.sessionId;
}
const idsOf = async (userId: string, of = authorities) => {
  const { sessions } = await of.clients[0]!.listUserSessions({ userId });
  return sessions.map((session) => session.sessionId).toSorted();
};

describe("limits", { skip }, () => {
  test("REJECT refuses a create above the limit, of every variant, and ends no session", async () => {
    const ids: string[] = [];
    for (let n = 0; n < 4; n++) ids.push(await create(n, { userId: "reject", ...reject(4) }));
    for (let n = 4; n < 8; n++) {
      await assert.rejects(create(n, { userId: "reject", ...reject(4) }), limitReached);
      await assert.rejects(create(n, { userId: "reject", limit: { maxSessions: 2 } }), limitReached, "unspecified");
    }
    assert.deepEqual(await idsOf("reject"), ids.toSorted());
    await create(0, { userId: "nobody else", ...reject(1) });
    assert.equal((await authorities.auditEvents("reject")).length, 4, "a refusal is not audited");
  });

  test("EVICT_OLDEST ends the sessions least recently accessed until the new one fits", async () => {
    const ids: string[] = [];
    // The least recently accessed are not the first to expire.
    for (let n = 0; n < 6; n++) {
      const idleTimeout = { seconds: BigInt(3600 * (6 - n)), nanos: 0 };
      ids.push(await create(n, { userId: "evict", idleTimeout }));
    }
    // The first is now the most recently accessed.
    await authorities.nextMs();
    await client.getSession({ sessionId: ids[0]! });
    const added = await create(6, { userId: "evict", ...evict(3) });
    assert.deepEqual(await idsOf("evict"), [ids[0]!, ids[5]!, added].toSorted());
    const events = await authorities.auditEvents("evict");
    assert.deepEqual(events.slice(6), [...Array<string>(4).fill("evicted"), "created"]);
    for (const sessionId of ids.slice(1, 5)) {
      assert.equal((await client.explainSession({ sessionId })).reason, InvalidationReason.EVICTED);
    }
  });

  test("dead sessions do not count, nor does the session that a login on its device replaces", async () => {
    const [first, second] = [await create(0, { userId: "dead" }), await create(3, { userId: "dead" })];
    await authorities.expireNow(first);
    const third = await create(1, { userId: "dead", ...reject(2) });
    await assert.rejects(create(1, { userId: "dead", ...reject(2) }), limitReached);
    const again = await create(3, { userId: "dead", ...reject(2) });
    assert.deepEqual(await idsOf("dead"), [third, again].toSorted());
    assert.ok(![third, again].includes(second));
  });

  test("each create has its own limit: a lower one refuses, a higher one admits", async () => {
    for (let n = 0; n < 3; n++) await create(n, { userId: "two callers", ...reject(3) });
    await assert.rejects(create(0, { userId: "two callers", ...reject(2) }), limitReached);
    await create(0, { userId: "two callers", ...reject(5) });
    assert.equal((await idsOf("two callers")).length, 4, "the lower limit ends nothing afterwards");
    await create(0, { userId: "two callers", ...evict(2) });
    assert.equal((await idsOf("two callers")).length, 2);
  });

  test("a retry with the same request_id succeeds at the limit, since it creates no session", async () => {
    const request = { userId: "retry", requestId: "r", ...reject(1) };
    assert.equal(await create(0, request), await create(0, request));
    assert.deepEqual(await authorities.auditEvents("retry"), ["created"]);
  });

  test("the server's limit applies to a create without one", async () => {
    const ids: string[] = [];
    for (let n = 0; n < 3; n++) ids.push(await create(n, { userId: "default" }, capped));
    assert.deepEqual(await idsOf("default", capped), ids.slice(1).toSorted());
    await assert.rejects(create(0, { userId: "default", ...reject(2) }, capped), limitReached);
    await create(0, { userId: "default", ...reject(3) }, capped);
    assert.equal((await idsOf("default", capped)).length, 3);
  });
});

describe("the create rate", { skip }, () => {
  test("refuses a user's fifth create with RetryInfo, and counts neither refusals nor retries", async () => {
    const request = { userId: "rate", ...reject(4) };
    for (let n = 0; n < 3; n++) await create(n, request, capped);
    const retried = await create(0, { ...request, requestId: "r" }, capped);
    for (let n = 0; n < 6; n++) {
      assert.equal(await create(0, { ...request, requestId: "r" }, capped), retried);
    }
    const refused = { code: status.RESOURCE_EXHAUSTED, reason: "CREATE_RATE_EXCEEDED", retryInfo: true };
    for (let n = 0; n < 4; n++) await assert.rejects(create(n, { userId: "rate" }, capped), refused);
    assert.equal((await idsOf("rate", capped)).length, 4);
    await create(0, { userId: "another" }, capped);
  });

  test("does not count creates that a limit refused", async () => {
    await create(0, { userId: "limited" }, capped);
    for (let n = 0; n < 6; n++) {
      await assert.rejects(create(n, { userId: "limited", ...reject(1) }, capped), limitReached);
    }
    for (let n = 0; n < 3; n++) await create(n, { userId: "limited" }, capped);
  });
});

describe("authentication.time", { skip }, () => {
  test("a login that began before the last DeleteUserSessions is refused, by every variant", async () => {
    const before = timestampFromMs(await authorities.nextMs());
    await create(0, { userId: "login", authentication: { time: before } });
    const kept = await create(0, { userId: "login" });
    assert.equal((await client.deleteUserSessions({ userId: "login", exceptSessionId: kept })).deletedCount, 1);
    const after = timestampFromMs(await authorities.nextMs());
    const refused = { code: status.FAILED_PRECONDITION, reason: "REVOKED_SINCE_LOGIN" };
    for (let n = 0; n < 4; n++) {
      await assert.rejects(create(n, { userId: "login", authentication: { time: before } }), refused);
      await create(n, { userId: "login", authentication: { time: after } });
      await create(n, { userId: "login" });
    }
    await assert.rejects(create(0, { userId: "login", authentication: { time: timestampFromMs(0) } }), refused);
    await create(0, { userId: "somebody else", authentication: { time: before } });
    // DeleteSession refuses no login.
    const one = await create(0, { userId: "single" });
    await client.deleteSession({ sessionId: one });
    await create(0, { userId: "single", authentication: { time: before } });
  });
});

describe("ip_address and user_agent", { skip }, () => {
  test("those over their limits are cut there on a character boundary, in every variant", async () => {
    const forwardedFor = Array.from({ length: 20 }, () => "198.51.100.1").join(", ");
    for (const [ipAddress, userAgent, expected] of [
      [forwardedFor, "x".repeat(4097), [forwardedFor.slice(0, 256), "x".repeat(4096)]],
      ["x".repeat(256), "x".repeat(4096), ["x".repeat(256), "x".repeat(4096)]],
      ["€".repeat(86), "\u{1F600}".repeat(1025), ["€".repeat(85), "\u{1F600}".repeat(1024)]],
      [
        "x" + "é".repeat(128),
        "xy" + "\u{1F600}".repeat(1024),
        ["x" + "é".repeat(127), "xy" + "\u{1F600}".repeat(1023)],
      ],
      ["x".repeat(20_000), "x".repeat(200_000), ["x".repeat(256), "x".repeat(4096)]],
    ] as const) {
      for (let n = 0; n < 4; n++) await create(n, { userId: "long", ipAddress, userAgent });
      const { sessions } = await client.listUserSessions({ userId: "long" });
      assert.equal(sessions.length, 4);
      for (const session of sessions) {
        assert.deepEqual([session.ipAddress, session.userAgent], expected);
        if (session.device !== undefined) assert.equal(session.device.ipAddress, expected[0]);
      }
      await client.deleteUserSessions({ userId: "long" });
    }
  });

  test("a request over the message size limit is still refused", async () => {
    const refused = { code: status.RESOURCE_EXHAUSTED };
    await assert.rejects(client.createSession({ userId: "huge", userAgent: "x".repeat(256 * 1024) }), refused);
    assert.deepEqual(await idsOf("huge"), []);
  });
});

test("timeouts are those of the request, or the server's if it has none", { skip }, async () => {
  const seconds = (n: number) => ({ seconds: BigInt(n), nanos: 0 });
  const { session: own } = await client.createSecureSession({
    userId: "own",
    idleTimeout: seconds(60),
    absoluteTimeout: seconds(90),
  });
  const { session: ours } = await client.createDeviceSession({ userId: "ours", device: { deviceId: "d" } });
  const lives = [own!, ours!].map((session) =>
    [session.expireTime!, session.absoluteExpireTime!].map(
      (at) => (timestampMs(at) - timestampMs(session.createTime!)) / 1000,
    ),
  );
  assert.deepEqual(lives, [
    [60, 90],
    [86_400, 30 * 86_400],
  ]);
});
