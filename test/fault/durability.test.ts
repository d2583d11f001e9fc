// Ends that must be on replicas before they are acknowledged.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { Verdict } from "../../gen/session/v1/session_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import type { AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing, startRedisServer, type RedisServer } from "../helpers/redis_server.ts";
import { isInSync } from "../helpers/replication.ts";
import { until } from "../helpers/until.ts";

const skip = redisServerMissing();
const notReplicated = { code: status.UNAVAILABLE, reason: "NOT_REPLICATED" };

let primary: RedisServer;
let replica: RedisServer;
let authorities: Authorities;
let client: AuthorityClient;

before(async () => {
  if (skip) return;
  primary = await startRedisServer({ args: ["--repl-diskless-sync-delay", "0"] });
  replica = await startRedisServer({ args: ["--replicaof", "127.0.0.1", String(primary.port)] });
  await until("the replica is in sync", () => isInSync(replica));
  authorities = await startAuthorities({ env: { SA_STORE_URL: primary.url } });
  client = authorities.clients[0]!;
});
after(async () => {
  if (skip) return;
  await authorities.close();
  await Promise.all([primary.stop(), replica.stop()]);
});

const login = async (userId: string) =>
  (await client.createSession({ userId, device: { deviceId: "phone" } })).session!.sessionId;
const one = { minReplicas: 1, timeout: durationFromMs(20_000) };

test("every end waits for the replicas that it asks for, and says how many have it", { skip }, async () => {
  const options = { timeoutMs: 25_000 };
  const [a, b] = [await login("a"), await login("b")];
  assert.equal((await client.deleteSession({ sessionId: a }, options)).replicaCount, 0, "unless it asks for none");
  const responses = [
    await client.invalidateSession({ sessionId: b, durability: one }, options),
    await client.deleteUserSessions({ userId: "c", durability: one }, options),
    await client.revokeDevice({ userId: "d", deviceId: "phone", durability: one }, options),
    await client.deleteSession({ sessionId: await login("e"), durability: one }, options),
  ];
  const { token } = await client.createSecureSession({ userId: "f" });
  const revoked = await client.revokeToken({ token, durability: one }, options);
  assert.equal(revoked.deleted, true);
  for (const { replicaCount } of [...responses, revoked]) assert.equal(replicaCount, 1);
});

test("with too few replicas, the end is applied and the call says so", { skip }, async () => {
  const sessionId = await login("few");
  const two = { minReplicas: 2, timeout: durationFromMs(50) };
  await assert.rejects(client.deleteSession({ sessionId, durability: two }), {
    ...notReplicated,
    message: /1 of 2 replicas/,
    retryInfo: true,
  });
  assert.equal((await client.validateSession({ sessionId })).verdict, Verdict.INVALID);
  const repeated = await client.deleteSession({ sessionId, durability: one }, { timeoutMs: 25_000 });
  assert.deepEqual([repeated.deleted, repeated.replicaCount], [false, 1]);
  // A replica that hangs is not waited for longer than that, nor longer than the call's deadline.
  replica.pause();
  try {
    const other = await login("hangs");
    await assert.rejects(client.deleteSession({ sessionId: other, durability: { minReplicas: 1 } }), notReplicated);
    const long = { minReplicas: 1, timeout: durationFromMs(60_000) };
    const call = client.deleteSession({ sessionId: other, durability: long }, { timeoutMs: 1_500 });
    await assert.rejects(call, ({ code }: { code: number }) =>
      [status.UNAVAILABLE, status.DEADLINE_EXCEEDED].includes(code),
    );
    assert.equal((await client.validateSession({ sessionId: other })).verdict, Verdict.INVALID);
  } finally {
    replica.resume();
  }
});

test("SA_REVOKE_MIN_REPLICAS is the default, which a call can lower", { skip }, async () => {
  const strict = await startAuthorities({ env: { SA_STORE_URL: primary.url, SA_REVOKE_MIN_REPLICAS: "2" } });
  try {
    const [strictClient] = strict.clients as [AuthorityClient];
    const { session } = await strictClient.createSession({ userId: "strict" });
    await assert.rejects(strictClient.deleteSession({ sessionId: session!.sessionId }), notReplicated);
    const { replicaCount } = await strictClient.deleteUserSessions({
      userId: "strict",
      durability: { minReplicas: 0 },
    });
    assert.equal(replicaCount, 0);
  } finally {
    await strict.close();
  }
});
