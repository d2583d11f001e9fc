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
    await assert.rejects(client.getSession({ sessionId, ...other }), {
      code: status.NOT_FOUND,
      reason: "SESSION_NOT_FOUND",
    });
    const { verdict, session, ipMismatch } = await client.validateToken({ token, ...other });
    assert.deepEqual([verdict, session, ipMismatch], [Verdict.INVALID, undefined, false]);
    for (const id of [sessionId, secureId]) {
      const { reason, note } = await client.explainSession({ sessionId: id });
      assert.deepEqual([reason, note], [InvalidationReason.REVOKED, "ip_mismatch"]);
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
