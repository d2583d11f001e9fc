// The process dies in the middle of the login of an anonymous session: nothing of the session is lost, and the login can be
// made again.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "redis";
import { ownerOf } from "../../src/domain/owner.ts";
import { userScriptKeys } from "../../src/store/keys.ts";
import { PARTITION_TAGS } from "../../src/store/partition_tags.ts";
import { partitionOfSessionId } from "../../src/domain/session_id.ts";
import { startClientProxy } from "../helpers/client_proxy.ts";
import { createAuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing, startRedisServer, type RedisServer } from "../helpers/redis_server.ts";
import { startServerProcess, type ServerProcess } from "../helpers/server_process.ts";
import { scanStore } from "../helpers/store_scan.ts";

const skip = redisServerMissing();
/** Less than the silence after which a connection to the store is given up. */
const REPLY_DELAY_MS = 700;
/** A busy machine may look too late once. */
const ATTEMPTS = 10;

let redis: RedisServer;
let survivor: ServerProcess;

before(async () => {
  if (skip) return;
  redis = await startRedisServer();
  survivor = await startServerProcess(redis);
});
after(async () => {
  if (skip) return;
  await survivor.kill();
  await redis.stop();
});

test("a process that is killed between the parts of a login loses nothing", { skip }, async () => {
  const control = createClient({ url: redis.url });
  control.on("error", () => undefined);
  await control.connect();
  const client = createAuthorityClient(survivor.address);
  const cart = { data: { cart: ["book"] }, fields: { visits: "41" } };

  async function interruptLogin(userId: string): Promise<string | undefined> {
    const proxy = await startClientProxy(`127.0.0.1:${redis.port}`);
    const victim = await startServerProcess({ url: `redis://${proxy.address}`, dataDir: redis.dataDir });
    const { session } = await client.createSession(cart);
    const victimClient = createAuthorityClient(victim.address);
    proxy.delay("toClient", REPLY_DELAY_MS);
    const login = victimClient.regenerateSession({ sessionId: session!.sessionId, userId });
    login.catch(() => undefined);
    const index = userScriptKeys(ownerOf("default", userId))[0]!;
    while ((await control.zCard(index)) === 0) await sleep(1);
    // The user's session exists, and the victim does not know it yet.
    proxy.hold("toClient", true);
    await victim.kill();
    await assert.rejects(login);
    victimClient.close();
    await proxy.stop();
    const base = `sa:{${PARTITION_TAGS[partitionOfSessionId(session!.sessionId)!]}}:`;
    if ((await control.exists(`${base}t:${session!.sessionId}`)) === 1) return undefined;
    // The mark runs out after 10 s.
    assert.equal(await control.pExpire(`${base}mv:${session!.sessionId}`, 1), 1);
    return session!.sessionId;
  }

  let sessionId: string | undefined;
  let userId = "";
  for (let attempt = 0; sessionId === undefined && attempt < ATTEMPTS; attempt++) {
    userId = `interrupted ${attempt}`;
    sessionId = await interruptLogin(userId);
  }
  assert.ok(sessionId !== undefined, "no process was killed at the right moment");

  // The anonymous session goes on, and its changes are possible again.
  const { value } = await client.incrementSessionField({ sessionId, field: "visits", delta: 1n });
  assert.equal(value, 42n);
  const { session } = await client.regenerateSession({ sessionId, userId });
  assert.deepEqual([session!.userId, session!.data, session!.fields], [userId, cart.data, { visits: "42" }]);
  // The session that the killed process made is in the list, and its id is known to nobody.
  const { sessions } = await client.listUserSessions({ userId });
  assert.equal(sessions.length, 2);
  assert.equal((await client.deleteUserSessions({ userId, exceptSessionId: session!.sessionId })).deletedCount, 1);
  assert.deepEqual(await scanStore(control as never), []);
  client.close();
  control.destroy();
});
