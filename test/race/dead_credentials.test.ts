// A credential that stops being valid while a call with it goes on: the call may be answered as of its beginning, but never with
// what was written after the credential's end, and it acts on nothing any more. The store's replies to the calling instance
// arrive late, so that its scripts run after the change.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { JsonObject } from "@bufbuild/protobuf";
import { IpBinding, Verdict, type Session } from "../../gen/session/v1/session_pb.ts";
import { loadConfig } from "../../src/config/config.ts";
import { createLogger } from "../../src/ops/logger.ts";
import { startServer, type RunningServer } from "../../src/server.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import { createAuthorityClient, type AuthorityClient } from "../helpers/grpc_client.ts";
import { race } from "../helpers/races.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { rounds } from "../helpers/rounds.ts";
import { startTcpProxy, type TcpProxy } from "../helpers/tcp_proxy.ts";

const skip = redisServerMissing();
const ROUNDS = rounds({ quick: 300, all: 3000, variable: "RACE_ROUNDS" });
const REPLY_DELAY_MS = 2;
const LOGIN_ADDRESS = "192.0.2.1";
const OTHER_ADDRESS = "192.0.2.2";
const OLD = { data: { written: "before" } };
const NEW = { data: { written: "after" } };

let authorities: Authorities;
let proxy: TcpProxy;
let lateServer: RunningServer;
/** Calls an instance whose replies of the store are late. */
let late: AuthorityClient;
/** Calls one whose replies are not. */
let prompt: AuthorityClient;

before(async () => {
  if (skip) return;
  const env = { SA_ROTATION_GRACE: "0s", SA_TOUCH_INTERVAL: "0" };
  authorities = await startAuthorities({ env });
  prompt = authorities.clients[0]!;
  proxy = await startTcpProxy(() => ({ path: authorities.redis.socketPath! }), { replyDelayMs: REPLY_DELAY_MS });
  const config = loadConfig({
    ...{ SA_STORE_URL: `redis://${proxy.address}`, SA_DATA_DIR: authorities.redis.dataDir, SA_LOG_LEVEL: "fatal" },
    ...{ SA_GRPC_LISTEN: "127.0.0.1:0", SA_HTTP_LISTEN: "127.0.0.1:0", ...env },
  });
  lateServer = await startServer(config, createLogger(config));
  late = createAuthorityClient(lateServer.addresses.grpc!);
});
after(async () => {
  if (skip) return;
  late.close();
  await lateServer.close();
  await proxy.stop();
  await authorities.assertStoreSound();
  await authorities.close();
});

type Result = { readonly verdict: Verdict; readonly session?: Session };

const isNew = (session: Session | undefined) => (session?.data as JsonObject | undefined)?.["written"] === "after";

/** Asserts that a response which was late by the store is not a mixture of a dead credential and newer data. */
function assertOldOrInvalid({ verdict, session }: Result): void {
  if (verdict === Verdict.VALID) assert.ok(!isNew(session), "VALID with data that was written after the end");
}

type Handle = { readonly case: "token" | "sessionId"; readonly value: string };

/** The ways to validate that take a script after the record was read. */
const validations: Readonly<Record<string, (token: string, ipAddress?: string) => Promise<Result>>> = {
  ValidateToken: (token, ipAddress = "") => late.validateToken({ token, ipAddress }) as Promise<Result>,
  "ValidateToken with fields": (token, ipAddress = "") =>
    late.validateToken({ token, ipAddress, includeFields: true, touch: false }) as Promise<Result>,
  BatchValidate: async (token, ipAddress = "") => validateEntry({ case: "token", value: token }, ipAddress),
};

async function validateEntry(handle: Handle, ipAddress: string): Promise<Result> {
  const { results } = await late.batchValidate({ entries: [{ handle, touch: true, ipAddress }] });
  return results[0]! as Result;
}

describe("a token that ends during its validation", { skip }, () => {
  for (const [method, validate] of Object.entries(validations)) {
    test(`${method} and a rotation without a grace`, async () => {
      await race(ROUNDS, async (index) => {
        const userId = `rotated ${method} ${index}`;
        const { session, token } = await prompt.createSecureSession({ userId, ...OLD });
        const validated = validate(token);
        await prompt.rotateToken({ token });
        // The use of the rotated token may have ended the session.
        await prompt.updateSessionData({ sessionId: session!.sessionId, ...NEW }).catch(() => undefined);
        assertOldOrInvalid(await validated);
      });
    });

    test(`${method} and a create that is retried`, async () => {
      await race(ROUNDS, async (index) => {
        const create = { userId: `retried ${method} ${index}`, requestId: "r", ...OLD };
        const { session, token } = await prompt.createSecureSession(create);
        const validated = validate(token);
        const again = await prompt.createSecureSession(create);
        await prompt.updateSessionData({ sessionId: session!.sessionId, ...NEW });
        assertOldOrInvalid(await validated);
        assert.equal((await prompt.validateToken({ token: again.token })).verdict, Verdict.VALID);
      });
    });
  }

  test("a validation that began before a change does not answer one that began after it", async () => {
    await race(ROUNDS, async (index) => {
      const { session, token } = await prompt.createSecureSession({ userId: `shared ${index}`, ...OLD });
      const first = late.validateToken({ token });
      await prompt.updateSessionData({ sessionId: session!.sessionId, ...NEW });
      const second = (await late.validateToken({ token })) as Result;
      assert.ok(isNew(second.session), "older than an update that was made before the call");
      await first;
    });
  });
});

describe("an address that no longer opens the session", { skip }, () => {
  test("a binding that is set during a validation counts for what was written after it", async () => {
    await race(ROUNDS, async (index) => {
      const create = { userId: `bound ${index}`, ipAddress: LOGIN_ADDRESS, ...OLD };
      const { session } = await prompt.createSession(create);
      const { sessionId } = session!;
      const validated = validateEntry({ case: "sessionId", value: sessionId }, OTHER_ADDRESS);
      await prompt.updateSession({
        ...{ sessionId, updateMask: { paths: ["ip_binding"] }, ipBinding: IpBinding.INVALIDATE },
      });
      await prompt.updateSessionData({ sessionId, ...NEW }).catch(() => undefined);
      assertOldOrInvalid(await validated);
    });
  });

  test("a binding that is taken away during a validation ends nothing any more", async () => {
    await race(ROUNDS, async (index) => {
      const create = { userId: `unbound ${index}`, ipAddress: LOGIN_ADDRESS, ipBinding: IpBinding.INVALIDATE };
      const { session } = await prompt.createSession(create);
      const { sessionId } = session!;
      const validated = late.getSession({ sessionId, ipAddress: OTHER_ADDRESS }).catch(() => undefined);
      const unbound = await prompt
        .updateSession({ sessionId, updateMask: { paths: ["ip_binding"] }, ipBinding: IpBinding.UNSPECIFIED })
        .then(
          () => true,
          () => false,
        );
      await validated;
      const { verdict } = await prompt.validateSession({ sessionId });
      assert.equal(verdict, unbound ? Verdict.VALID : Verdict.INVALID);
    });
  });

  test("a token that a retried create has voided ends nothing, from whatever address it is presented", async () => {
    await race(ROUNDS, async (index) => {
      const ipBinding = IpBinding.INVALIDATE;
      const create = { userId: `voided ${index}`, requestId: "r", ipAddress: LOGIN_ADDRESS, ipBinding };
      const { token } = await prompt.createSecureSession(create);
      const validated = validations["ValidateToken"]!(token, OTHER_ADDRESS);
      const again = await prompt.createSecureSession(create).catch(() => undefined);
      assert.equal((await validated).verdict, Verdict.INVALID);
      if (again === undefined) return;
      assert.equal((await prompt.validateToken({ token: again.token })).verdict, Verdict.VALID);
    });
  });
});
