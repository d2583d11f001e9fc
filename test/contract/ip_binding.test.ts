// ip_binding, as the contract describes it: what happens to a session that is presented from another address than its login's.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { status } from "@grpc/grpc-js";
import { InvalidationReason, IpBinding, Verdict } from "../../gen/session/v1/session_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import type { AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

const skip = redisServerMissing();
/** The addresses of a request that passed many proxies: 300 bytes. */
const FORWARDED_FOR = Array.from({ length: 20 }, (_, n) => `198.51.100.${n % 10}`)
  .join(", ")
  .padEnd(300, "0");

let authorities: Authorities;
let client: AuthorityClient;

before(async () => {
  if (skip) return;
  authorities = await startAuthorities();
  client = authorities.clients[0]!;
});
after(async () => {
  if (skip) return;
  await authorities.assertStoreSound();
  await authorities.close();
});

const notFound = { code: status.NOT_FOUND, reason: "SESSION_NOT_FOUND" };
const reasonOf = async (sessionId: string) => {
  const { reason, note } = await client.explainSession({ sessionId });
  return [reason, note];
};

describe("ip_binding", { skip }, () => {
  const bound = async (ipBinding: IpBinding, ipAddress = "192.0.2.1") => {
    const userId = `ip ${ipBinding} ${ipAddress.slice(0, 40)}`;
    const [simple, secure] = await Promise.all([
      client.createSession({ userId, ipAddress, ipBinding }),
      client.createSecureSession({ userId, ipAddress, ipBinding }),
    ]);
    return { userId, sessionId: simple.session!.sessionId, token: secure.token, secureId: secure.session!.sessionId };
  };
  const mismatches = async (userId: string) => {
    return (await authorities.auditEvents(userId)).filter((event) => event === "ip_mismatch").length;
  };

  test("WARN leaves the session alive, reports the mismatch, and writes one audit entry an hour for each address", async () => {
    const { userId, sessionId, token } = await bound(IpBinding.WARN);
    for (const ipAddress of ["", "192.0.2.1", "::ffff:192.0.2.1"]) {
      assert.equal((await client.getSession({ sessionId, ipAddress })).ipMismatch, false, ipAddress);
      assert.equal((await client.validateToken({ token, ipAddress })).ipMismatch, false, ipAddress);
    }
    assert.equal(await mismatches(userId), 0);
    for (const ipAddress of ["192.0.2.2", "192.0.2.2", "2001:db8::1"]) {
      const { session, ipMismatch } = await client.getSession({ sessionId, ipAddress });
      assert.deepEqual([session!.sessionId, session!.ipAddress, ipMismatch], [sessionId, "192.0.2.1", true]);
      const validated = await client.validateToken({ token, ipAddress });
      assert.deepEqual([validated.verdict, validated.ipMismatch], [Verdict.VALID, true]);
    }
    assert.equal(await mismatches(userId), 4, "two sessions, two addresses");
    const marks = await authorities.control.keys(`*:i:${sessionId}:*`);
    assert.equal(marks.length, 2);
    for (const mark of marks) {
      const ttlMs = await authorities.control.pTTL(mark);
      assert.ok(ttlMs > 3_500_000 && ttlMs <= 3_600_000);
      await authorities.control.del(mark);
    }
    await client.getSession({ sessionId, ipAddress: "192.0.2.2" });
    assert.equal(await mismatches(userId), 5, "the hour has passed");
  });

  test("INVALIDATE ends the session", async () => {
    const { userId, sessionId, token, secureId } = await bound(IpBinding.INVALIDATE);
    assert.equal((await client.getSession({ sessionId, ipAddress: "192.0.2.1" })).ipMismatch, false);
    const other = { ipAddress: "192.0.2.2" };
    await assert.rejects(client.getSession({ sessionId, ...other }), notFound);
    const { verdict, session, ipMismatch } = await client.validateToken({ token, ...other });
    assert.deepEqual([verdict, session, ipMismatch], [Verdict.INVALID, undefined, false]);
    for (const id of [sessionId, secureId]) {
      assert.deepEqual(await reasonOf(id), [InvalidationReason.REVOKED, "ip_mismatch"]);
    }
    assert.deepEqual((await authorities.auditEvents(userId)).toSorted(), ["created", "created", "revoked", "revoked"]);
  });

  test("another spelling of the login's address is the same address", async () => {
    const spellings = {
      "2001:db8::1": ["2001:0db8:0:0:0:0:0:1", "2001:DB8::1", "[2001:db8::1]:443", "2001:db8::1%eth0", " 2001:db8::1 "],
      "192.0.2.1:50123": ["192.0.2.1", "192.0.2.1:50124", "::ffff:192.0.2.1", "::FFFF:c000:201"],
      "Behind-A-Proxy": ["behind-a-proxy"],
      [FORWARDED_FOR]: [FORWARDED_FOR, FORWARDED_FOR.slice(0, 256)],
    };
    for (const [login, others] of Object.entries(spellings)) {
      const { userId, sessionId, token } = await bound(IpBinding.INVALIDATE, login);
      for (const ipAddress of [login, ...others]) {
        assert.equal((await client.getSession({ sessionId, ipAddress })).ipMismatch, false, ipAddress);
        const entries = [{ handle: { case: "token" as const, value: token }, ipAddress }];
        const { results } = await client.batchValidate({ entries });
        for (const { verdict, ipMismatch } of [await client.validateToken({ token, ipAddress }), ...results]) {
          assert.deepEqual([verdict, ipMismatch], [Verdict.VALID, false], ipAddress);
        }
      }
      assert.deepEqual(await authorities.auditEvents(userId), ["created", "created"]);
    }
  });

  test("WARN writes one audit entry for an address that comes in many spellings", async () => {
    const { userId, sessionId } = await bound(IpBinding.WARN, "192.0.2.3");
    for (const ipAddress of ["2001:db8::2", "2001:DB8:0::2", "[2001:db8::2]:443", "[2001:db8::2]:444"]) {
      assert.equal((await client.getSession({ sessionId, ipAddress })).ipMismatch, true, ipAddress);
    }
    assert.equal(await mismatches(userId), 1);
  });

  test("OFF compares nothing, nor does a login without an address", async () => {
    for (const { userId, sessionId, token } of [
      await bound(IpBinding.OFF),
      await bound(IpBinding.UNSPECIFIED),
      await bound(IpBinding.INVALIDATE, ""),
    ]) {
      assert.equal((await client.getSession({ sessionId, ipAddress: "192.0.2.2" })).ipMismatch, false);
      const { verdict, ipMismatch } = await client.validateToken({ token, ipAddress: "192.0.2.2" });
      assert.deepEqual([verdict, ipMismatch], [Verdict.VALID, false]);
      assert.equal(await mismatches(userId), 0);
    }
  });
});

describe("ip_binding of RotateToken and RegenerateSession", { skip }, () => {
  const bound = async (ipBinding: IpBinding) => {
    const request = { userId: `rotation ${ipBinding}`, ipAddress: "2001:db8::1", ipBinding };
    const { token, session } = await client.createSecureSession(request);
    const simple = await client.createSession(request);
    return { userId: request.userId, token, secureId: session!.sessionId, sessionId: simple.session!.sessionId };
  };
  const elsewhere = { ipAddress: "192.0.2.2" };

  test("INVALIDATE: another address ends the session as GetSession does, before it is rotated", async () => {
    const [a, b] = [await bound(IpBinding.INVALIDATE), await bound(IpBinding.INVALIDATE)];
    const same = { ipAddress: "[2001:DB8:0::1]:443" };
    const { token, ipMismatch } = await client.rotateToken({ token: a.token, ...same });
    assert.equal(ipMismatch, false);
    await assert.rejects(client.rotateToken({ token, ...elsewhere }), notFound);
    await assert.rejects(client.regenerateSession({ token: b.token, ...elsewhere }), notFound);
    const { session } = await client.regenerateSession({ sessionId: a.sessionId, ...same });
    await assert.rejects(client.regenerateSession({ sessionId: session!.sessionId, ...elsewhere }), notFound);
    await assert.rejects(client.getSession({ sessionId: b.sessionId, ...elsewhere }), notFound);
    for (const id of [a.secureId, b.secureId, session!.sessionId, b.sessionId]) {
      assert.deepEqual(await reasonOf(id), [InvalidationReason.REVOKED, "ip_mismatch"]);
    }
    const events = await authorities.auditEvents(a.userId);
    const expected = [
      ...Array<string>(4).fill("created"),
      "regenerated",
      ...Array<string>(4).fill("revoked"),
      "rotated",
    ];
    assert.deepEqual(events.toSorted(), expected);
  });

  test("INVALIDATE: a retry is compared, too; a stolen secret ends the session as such", async () => {
    const [a, b, c] = [
      await bound(IpBinding.INVALIDATE),
      await bound(IpBinding.INVALIDATE),
      await bound(IpBinding.INVALIDATE),
    ];
    await client.rotateToken({ token: a.token, requestId: "r" });
    await authorities.passGrace(a.secureId);
    await assert.rejects(client.rotateToken({ token: a.token, requestId: "r", ...elsewhere }), notFound);
    const { session } = await client.regenerateSession({ token: b.token, requestId: "r" });
    await assert.rejects(client.regenerateSession({ token: b.token, requestId: "r", ...elsewhere }), notFound);
    for (const id of [a.secureId, session!.sessionId]) {
      assert.deepEqual(await reasonOf(id), [InvalidationReason.REVOKED, "ip_mismatch"]);
    }
    await client.rotateToken({ token: c.token });
    await authorities.passGrace(c.secureId);
    await assert.rejects(client.rotateToken({ token: c.token, ...elsewhere }), notFound);
    assert.deepEqual(await reasonOf(c.secureId), [InvalidationReason.TOKEN_REUSED, ""]);
  });

  test("WARN: the response reports the mismatch, and the audit trail has it once an hour", async () => {
    const { userId, token, sessionId } = await bound(IpBinding.WARN);
    const rotated = await client.rotateToken({ token, requestId: "r", ...elsewhere });
    assert.equal(rotated.ipMismatch, true);
    assert.equal((await client.rotateToken({ token, requestId: "r", ...elsewhere })).ipMismatch, true);
    assert.equal((await client.validateToken({ token: rotated.token, ...elsewhere })).ipMismatch, true);
    assert.equal((await client.regenerateSession({ sessionId, ...elsewhere })).ipMismatch, true);
    const events = await authorities.auditEvents(userId);
    assert.deepEqual(events, ["created", "created", "ip_mismatch", "rotated", "ip_mismatch", "regenerated"]);
  });

  test("OFF, and no address: nothing is compared", async () => {
    const { token, sessionId } = await bound(IpBinding.OFF);
    const other = await bound(IpBinding.INVALIDATE);
    assert.equal((await client.rotateToken({ token, ...elsewhere })).ipMismatch, false);
    assert.equal((await client.regenerateSession({ sessionId, ...elsewhere })).ipMismatch, false);
    assert.equal((await client.rotateToken({ token: other.token })).ipMismatch, false);
    // A blank address is one, as for GetSession.
    await assert.rejects(client.regenerateSession({ sessionId: other.sessionId, ipAddress: " " }), notFound);
  });
});
