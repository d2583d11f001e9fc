// The touch interval, as the contract describes it: how often an access slides the idle timeout, and that a session in use
// never idles out, whatever SA_TOUCH_INTERVAL is.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient, type Client } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Verdict } from "../../gen/session/v1/session_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { createSessionClient, type SessionClient } from "../../src/client/index.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import type { AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

const skip = redisServerMissing();
const SECOND_MS = 1000;
const DAY_MS = 86_400 * SECOND_MS;

type Caller = {
  readonly authorities: Authorities;
  readonly client: AuthorityClient;
  /** A client of the HTTP listener. */
  readonly connect: Client<typeof SessionService>;
  readonly cached: SessionClient;
};

/** Starts an instance with this SA_TOUCH_INTERVAL. */
async function startCaller(touchInterval: string | undefined): Promise<Caller> {
  const env: Record<string, string> = touchInterval === undefined ? {} : { SA_TOUCH_INTERVAL: touchInterval };
  const authorities = await startAuthorities({ env });
  const transport = createGrpcTransport({ baseUrl: `http://${authorities.httpAddresses[0]}` });
  return {
    authorities,
    client: authorities.clients[0]!,
    connect: createClient(SessionService, transport),
    cached: createSessionClient({ address: authorities.servers[0]!.addresses.grpc!, timeoutMs: 2500 }),
  };
}

async function stopCaller({ authorities, cached }: Caller): Promise<void> {
  cached.close();
  await authorities.close();
}

const loginOf = (userId: string, idleMs: number) => ({
  userId,
  idleTimeout: { seconds: BigInt(idleMs / SECOND_MS), nanos: 0 },
  absoluteTimeout: { seconds: 400n * 86_400n, nanos: 0 },
});
type Login = ReturnType<typeof loginOf>;

/** Logs in. `use` accesses the session, and returns false if it has ended. */
type Access = (caller: Caller, login: Login) => Promise<{ readonly sessionId: string; use(): Promise<boolean> }>;

async function succeeds(call: Promise<unknown>): Promise<boolean> {
  try {
    await call;
    return true;
  } catch (error) {
    if ((error as { reason?: string }).reason === "SESSION_NOT_FOUND") return false;
    throw error;
  }
}

const simple =
  (use: (caller: Caller, sessionId: string) => Promise<boolean>): Access =>
  async (caller, login) => {
    const { sessionId } = (await caller.client.createSession(login)).session!;
    return { sessionId, use: () => use(caller, sessionId) };
  };
const hash =
  (use: (caller: Caller, sessionId: string) => Promise<boolean>): Access =>
  async (caller, login) => {
    const { sessionId } = (await caller.client.createHashSession({ ...login, fields: { a: "1" } })).session!;
    return { sessionId, use: () => use(caller, sessionId) };
  };
const secure =
  (use: (caller: Caller, token: string) => Promise<boolean>): Access =>
  async (caller, login) => {
    const { token, session } = await caller.client.createSecureSession(login);
    return { sessionId: session!.sessionId, use: () => use(caller, token) };
  };

const isValid = ({ verdict }: { readonly verdict: Verdict }) => verdict === Verdict.VALID;
const entryOf = (kind: "sessionId" | "token", value: string) => ({
  entries: [{ handle: { case: kind, value }, touch: true }],
});

async function validateByStream({ connect }: Caller, sessionId: string): Promise<boolean> {
  async function* requests() {
    yield entryOf("sessionId", sessionId);
  }
  for await (const { results } of connect.validateStream(requests())) return isValid(results[0]!);
  return assert.fail("the stream ended without a response");
}

/** The ways to access a session without a change. */
const ACCESSES: Readonly<Record<string, Access>> = {
  GetSession: simple(({ client }, sessionId) => succeeds(client.getSession({ sessionId }))),
  GetSessionField: hash(({ client }, sessionId) => succeeds(client.getSessionField({ sessionId, field: "a" }))),
  GetSessionFields: hash(({ client }, sessionId) => succeeds(client.getSessionFields({ sessionId }))),
  ValidateToken: secure(async ({ client }, token) => isValid(await client.validateToken({ token }))),
  "ValidateToken over HTTP": secure(async ({ connect }, token) => isValid(await connect.validateToken({ token }))),
  "BatchValidate of an id": simple(async ({ client }, sessionId) =>
    isValid((await client.batchValidate(entryOf("sessionId", sessionId))).results[0]!),
  ),
  "BatchValidate of a token": secure(async ({ client }, token) =>
    isValid((await client.batchValidate(entryOf("token", token))).results[0]!),
  ),
  ValidateStream: simple(validateByStream),
  GetDeviceSession: async ({ client }, login) => {
    const device = { deviceId: "phone" };
    const { sessionId } = (await client.createDeviceSession({ ...login, device })).session!;
    const request = { userId: login.userId, ...device };
    return { sessionId, use: () => succeeds(client.getDeviceSession(request)) };
  },
  "getSession of the cached client": simple(
    async ({ cached }, sessionId) => (await cached.getSession(sessionId)) !== undefined,
  ),
  "validateToken of the cached client": secure(
    async ({ cached }, token) => (await cached.validateToken(token)) !== undefined,
  ),
};

describe("SA_TOUCH_INTERVAL=10s, a session with idle_timeout 3s, used every 0.5 s", { skip, concurrency: true }, () => {
  const IDLE_MS = 3 * SECOND_MS;
  /** Four fifths of the idle timeout: what the cached client promises. The service promises nine tenths. */
  const PROMISED_MS = 0.8 * IDLE_MS;
  let caller: Caller;
  before(async () => void (caller = await startCaller("10s")));
  // No scan for a sound store: sessions would expire in the middle of it.
  after(() => stopCaller(caller));

  /**
   * Uses a session every 0.5 s for three idle timeouts, or until it has ended. Returns the longest time between two uses, if
   * the session has ended.
   */
  async function useSteadily(access: Access, login: Login): Promise<number | undefined> {
    let lastUseMs = performance.now();
    let longestMs = 0;
    const { use } = await access(caller, login);
    for (const endMs = performance.now() + 3 * IDLE_MS; performance.now() < endMs; await sleep(500)) {
      const sentMs = performance.now();
      const isAlive = await use();
      // The store received both uses within this time.
      longestMs = Math.max(longestMs, performance.now() - lastUseMs);
      lastUseMs = sentMs;
      if (!isAlive) return longestMs;
    }
    return undefined;
  }

  for (const [name, access] of Object.entries(ACCESSES)) {
    test(`stays alive by ${name}`, async () => {
      // A machine that is too busy to use the session in time says nothing, so the test starts again.
      for (let attempt = 1; attempt <= 10; attempt++) {
        const endedAfterMs = await useSteadily(access, loginOf(`${name} ${attempt}`, IDLE_MS));
        if (endedAfterMs === undefined) return;
        const gap = `${Math.round(endedAfterMs)} ms`;
        assert.ok(endedAfterMs > PROMISED_MS, `it has ended, and was used at least every ${gap}`);
      }
      assert.fail("the machine was too busy to use a session in time");
    });
  }

  test("ends if it is not used", async () => {
    const { sessionId, use } = await ACCESSES["GetSession"]!(caller, loginOf("unused", IDLE_MS));
    // ValidateSession does not slide. If the session never ends, the test times out.
    while (isValid(await caller.client.validateSession({ sessionId }))) await sleep(100);
    assert.equal(await use(), false);
  });
});

/** SA_TOUCH_INTERVAL, an idle timeout, and the least time between two slides. */
const INTERVALS = [
  { setting: undefined, idleMs: 5000 * SECOND_MS, intervalMs: 50 * SECOND_MS },
  { setting: undefined, idleMs: 400 * DAY_MS, intervalMs: 60 * SECOND_MS },
  { setting: "1h", idleMs: 10_000 * SECOND_MS, intervalMs: 1000 * SECOND_MS },
  { setting: "1h", idleMs: 400 * DAY_MS, intervalMs: 3600 * SECOND_MS },
] as const;

for (const setting of [undefined, "1h"]) {
  describe(`with ${setting === undefined ? "no SA_TOUCH_INTERVAL" : `SA_TOUCH_INTERVAL=${setting}`}`, { skip }, () => {
    let caller: Caller;
    before(async () => void (caller = await startCaller(setting)));
    after(async () => {
      await caller.authorities.assertStoreSound();
      await stopCaller(caller);
    });

    /** The time of the session's last access in its record, or writes it there. */
    const lastAccess = async (sessionId: string, writeMs?: number) => {
      const [key] = await caller.authorities.keysOfSession(sessionId);
      const script =
        "if ARGV[1] ~= '' then redis.call('SETRANGE', KEYS[1], 32, struct.pack('>d', ARGV[1])) end " +
        "return string.format('%.0f', (struct.unpack('>d', redis.call('GETRANGE', KEYS[1], 32, 39))))";
      const options = { keys: [key!], arguments: [writeMs === undefined ? "" : String(writeMs)] };
      return Number(await caller.authorities.control.eval(script, options));
    };

    for (const { idleMs, intervalMs } of INTERVALS.filter((row) => row.setting === setting)) {
      for (const [name, access] of Object.entries(ACCESSES)) {
        test(`${name} slides an idle timeout of ${idleMs} ms once in ${intervalMs} ms`, async () => {
          for (const [sinceMs, slides] of [
            [0.8 * intervalMs, false],
            [intervalMs, true],
          ] as const) {
            const { sessionId, use } = await access(caller, loginOf(`${name} ${idleMs} ${slides}`, idleMs));
            const accessedMs = (await lastAccess(sessionId)) - sinceMs;
            await lastAccess(sessionId, accessedMs);
            assert.equal(await use(), true);
            assert.equal((await lastAccess(sessionId)) > accessedMs, slides, `${sinceMs} ms after the last access`);
            // Its deadline is no longer that of the last access.
            await caller.authorities.clients[0]!.deleteSession({ sessionId });
          }
        });
      }
    }
  });
}
