// With a store whose memory is full, new sessions are refused with a clear error, and sessions can still be ended.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { status } from "@grpc/grpc-js";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import type { AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

const skip = redisServerMissing();
const USERS = ["one", "two", "three", "four", "five"];

let authorities: Authorities;
let client: AuthorityClient;
const sessions: string[] = [];
let token: string;

before(async () => {
  if (skip) return;
  authorities = await startAuthorities();
  client = authorities.clients[0]!;
  for (const userId of USERS) {
    const { session } = await client.createDeviceSession({ userId, device: { deviceId: "d" }, data: { a: 1 } });
    sessions.push(session!.sessionId);
  }
  ({ token } = await client.createSecureSession({ userId: "secure" }));
  // Less than is used already.
  await authorities.control.configSet("maxmemory", "1mb");
});
after(async () => {
  if (skip) return;
  await authorities.assertStoreSound();
  await authorities.close();
});

const full = { code: status.RESOURCE_EXHAUSTED, reason: "STORE_FULL" };

test("an operation that needs memory is refused with its reason", { skip }, async () => {
  await assert.rejects(client.createSession({ userId: "six" }), full);
  await assert.rejects(client.updateSessionData({ sessionId: sessions[0]!, data: { b: 2 } }), full);
  await assert.rejects(client.rotateToken({ token }), full);
  assert.deepEqual((await client.listUserSessions({ userId: "six" }).catch(() => ({ sessions: [] }))).sessions, []);
});

test("validation continues", { skip }, async () => {
  assert.equal((await client.validateSession({ sessionId: sessions[0]! })).verdict, 1);
  assert.equal((await client.validateToken({ token, touch: false })).verdict, 1);
});

test("every way of logging out works", { skip }, async () => {
  assert.equal((await client.deleteSession({ sessionId: sessions[0]! })).deleted, true);
  assert.equal((await client.deleteUserSessions({ userId: USERS[1]! })).deletedCount, 1);
  assert.equal((await client.revokeDevice({ userId: USERS[2]!, deviceId: "d" })).deleted, true);
  assert.equal((await client.revokeToken({ token })).deleted, true);
  for (const sessionId of sessions.slice(0, 3)) {
    assert.equal((await client.validateSession({ sessionId })).verdict, 2);
  }
});

test("with memory again, everything works", { skip }, async () => {
  await authorities.control.configSet("maxmemory", "0");
  await client.createSession({ userId: "six" });
  assert.deepEqual(await authorities.auditEvents(USERS[2]!), ["created", "device_revoked"]);
});
