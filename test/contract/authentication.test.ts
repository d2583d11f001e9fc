// API keys: which callers are admitted, as which principal, to which methods; and the format of the key file.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, before, describe, test } from "node:test";
import { create, fromBinary, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, createClient, type Client, type ConnectError } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import pino from "pino";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { Health } from "../../gen/grpc/health/v1/health_pb.ts";
import { ServerReflection, ServerReflectionRequestSchema } from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import { ListAuditEventsRequestSchema } from "../../gen/session/v1/audit_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { CreateSessionRequestSchema, GetSessionRequestSchema } from "../../gen/session/v1/simple_sessions_pb.ts";
import { GetSessionResponseSchema } from "../../gen/session/v1/simple_sessions_pb.ts";
import type { CallContext } from "../../src/domain/call.ts";
import type { SessionError } from "../../src/domain/errors.ts";
import type { SessionServiceImpl } from "../../src/service/handlers.ts";
import { parseApiKeys } from "../../src/auth/api_key_file.ts";
import { createAuthentication, type Authentication } from "../../src/auth/authentication.ts";
import { sessionRoutes } from "../../src/rpc/routes.ts";
import { countLostTime } from "../helpers/lost_time.ts";
import { startHosts, wiresOf, type Hosts, type Wire } from "../helpers/rpc_hosts.ts";

const { createSession, getSession, listAuditEvents } = SessionService.method;
const sha256 = (key: string) => createHash("sha256").update(key).digest("hex");
const keyFile = (...keys: object[]) => JSON.stringify({ keys });
const ORDERS = { name: "orders", tenant: "acme", sha256: sha256("orders-key"), scopes: ["read", "write"] };
const READER = { name: "reader", tenant: "globex", sha256: sha256("reader-key"), scopes: ["read", "watch"] };
const OPERATOR = { name: "operator", tenant: "acme", sha256: sha256("operator-key"), scopes: ["admin", "extend"] };

let directory: string;
before(() => (directory = mkdtempSync(join(tmpdir(), "sa-keys-"))));
after(() => rmSync(directory, { recursive: true }));

function fileWith(text: string, name = "keys.json"): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

test("every method requires the scope that is its option in the contract", () => {
  const proto = readFileSync(join(import.meta.dirname, "../../proto/session/v1/session_service.proto"), "utf8");
  const stated: Record<string, string> = {};
  for (const [, name, scope] of proto.matchAll(/rpc (\w+)\([^{]*\{\s*option \(scope\) = SCOPE_(\w+);/g)) {
    stated[`session.v1.SessionService/${name}`] = scope!.toLowerCase();
  }
  const required = sessionRoutes({}, {}).map(({ name, scope }) => [name, scope]);
  assert.deepEqual(Object.fromEntries(required), stated);
  assert.equal(required.length, SessionService.methods.length);
});

test("what only reads requires read, and everything else of a session requires write", () => {
  for (const { name, scope } of sessionRoutes({}, {})) {
    if (scope === "audit" || scope === "watch" || scope === "admin") continue;
    const reads = /\/(Get|List|Validate|BatchValidate)/.test(name);
    assert.equal(scope, reads ? "read" : "write", name);
  }
});

describe("calls", () => {
  let authentication: Authentication;
  let hosts: Hosts;
  let wires: Wire[];
  before(async () => {
    const logger = pino({ level: "silent" });
    authentication = createAuthentication({ keysFile: fileWith(keyFile(ORDERS, READER)), logger });
    hosts = await startHosts(
      {
        // Responds with the principal of the call.
        async getSession(_, { principal }) {
          return { session: { userId: `${principal.tenant}/${principal.name}` } };
        },
        async *watchInvalidations() {
          yield {};
        },
      },
      { authenticate: authentication.authenticate },
    );
    wires = wiresOf(hosts);
  });
  after(async () => {
    authentication.close();
    for (const wire of wires) wire.close();
    await hosts.close();
  });

  const get = (wire: Wire, authorization?: string) => {
    const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
    const request = create(GetSessionRequestSchema, { sessionId: "s" });
    return wire.call(getSession, toBinary(GetSessionRequestSchema, request), { headers });
  };
  const send = <D extends typeof CreateSessionRequestSchema | typeof ListAuditEventsRequestSchema>(
    wire: Wire,
    [method, desc, init]: [typeof createSession | typeof listAuditEvents, D, MessageInitShape<D>],
    key: string,
  ) => wire.call(method, toBinary(desc, create(desc, init)), { headers: { authorization: `Bearer ${key}` } });

  test("reach the handler as the tenant and the name of their key", async () => {
    for (const wire of wires) {
      for (const [credential, who] of [
        ["Bearer orders-key", "acme/orders"],
        ["bearer  reader-key", "globex/reader"],
      ] as const) {
        const response = fromBinary(GetSessionResponseSchema, await get(wire, credential));
        assert.equal(response.session?.userId, who, wire.name);
      }
    }
  });

  test("without a valid credential are UNAUTHENTICATED, all alike", async () => {
    const expected = {
      code: "UNAUTHENTICATED",
      reason: "CREDENTIAL_INVALID",
      domain: "session-authority",
      message: "no valid API key was presented",
    };
    const bad = [undefined, "", "Bearer", "Bearer x", "Basic orders-key", "orders-key", `Bearer ${ORDERS.sha256}`];
    for (const wire of wires) {
      for (const credential of [...bad, "Bearer orders-key2", "Bearer orders-key reader-key"]) {
        await assert.rejects(get(wire, credential), expected, `${wire.name}: ${credential}`);
      }
    }
  });

  test("without the scope are PERMISSION_DENIED, whatever else is wrong", async () => {
    const expected = { code: "PERMISSION_DENIED", reason: "SCOPE_MISSING" };
    for (const wire of wires) {
      // The first request is also invalid, and the second method is not implemented.
      await assert.rejects(send(wire, [createSession, CreateSessionRequestSchema, {}], "reader-key"), expected);
      const audit = [listAuditEvents, ListAuditEventsRequestSchema, { userId: "u" }] as const;
      await assert.rejects(send(wire, [...audit], "orders-key"), expected);
      await assert.rejects(send(wire, [createSession, CreateSessionRequestSchema, { userId: "u" }], "orders-key"), {
        code: "UNIMPLEMENTED",
      });
    }
  });

  test("of streams are checked too", async () => {
    for (const baseUrl of [`http://${hosts.grpcTarget}`, hosts.httpUrl]) {
      const client = createClient(SessionService, createGrpcTransport({ baseUrl }));
      const watch = async (key: string) => {
        let count = 0;
        const headers = { authorization: `Bearer ${key}` };
        for await (const _ of client.watchInvalidations({}, { headers })) count++;
        return count;
      };
      assert.equal(await watch("reader-key"), 1);
      await assert.rejects(watch("orders-key"), { code: 7 });
      await assert.rejects(watch("nobody"), { code: 16 });
    }
  });
});

test("reflection requires the scope read, and health requires no key", async () => {
  const keysFile = fileWith(keyFile(READER, OPERATOR), "reflection.json");
  const authentication = createAuthentication({ keysFile, logger: pino({ level: "silent" }) });
  const hosts = await startHosts({}, { authenticate: authentication.authenticate });
  for (const baseUrl of [`http://${hosts.grpcTarget}`, hosts.httpUrl]) {
    const transport = createGrpcTransport({ baseUrl });
    const list = async (headers: Record<string, string>) => {
      const request = { messageRequest: { case: "listServices" as const, value: "" } };
      const requests = Readable.from([create(ServerReflectionRequestSchema, request)]);
      const responses = createClient(ServerReflection, transport).serverReflectionInfo(requests, { headers });
      let count = 0;
      for await (const _ of responses) count++;
      return count;
    };
    assert.equal(await list({ authorization: "Bearer reader-key" }), 1);
    await assert.rejects(list({}), { code: Code.Unauthenticated });
    await assert.rejects(list({ authorization: "Bearer operator-key" }), { code: Code.PermissionDenied });
    await createClient(Health, transport).check({});
  }
  authentication.close();
  await hosts.close();
});

describe("open streams", () => {
  const RIGHTS = ["read", "watch", "admin"];
  const KEY = { name: "streams", tenant: "acme", sha256: sha256("streams-key"), scopes: RIGHTS };
  const OTHER = { name: "other", tenant: "acme", sha256: sha256("other-key"), scopes: RIGHTS };
  const headers = { authorization: "Bearer streams-key" };

  async function* untilAborted({ signal }: CallContext) {
    yield {};
    await once(signal, "abort");
  }
  const implementation: SessionServiceImpl = {
    watchInvalidations: (_, call) => untilAborted(call),
    endSessions: (_, call) => untilAborted(call),
    async *validateStream(requests) {
      for await (const _ of requests) yield {};
    },
  };

  /** A stream of each kind; each has sent a response. */
  function openStreams(client: Client<typeof SessionService>, callHeaders: Record<string, string>) {
    const options = { headers: callHeaders };
    async function* requests() {
      yield { entries: [{}] };
      await new Promise(() => undefined);
    }
    const streams: AsyncIterable<unknown>[] = [
      client.watchInvalidations({}, options),
      client.endSessions({ all: true }, options),
      client.validateStream(requests(), options),
    ];
    return Promise.all(
      streams.map(async (stream) => {
        const messages = stream[Symbol.asyncIterator]();
        await messages.next();
        return messages;
      }),
    );
  }

  for (const [change, changed] of [
    ["is removed", []],
    ["loses a scope", [{ ...KEY, scopes: ["read"] }]],
    ["gains a scope", [{ ...KEY, scopes: [...RIGHTS, "audit"] }]],
    ["moves to another tenant", [{ ...KEY, tenant: "globex" }]],
    ["gets another name", [{ ...KEY, name: "renamed" }]],
  ] as const) {
    test(`end within two seconds when their key ${change}; those of other keys do not`, async () => {
      const keysFile = fileWith(keyFile(KEY, OTHER), "streams.json");
      const authentication = createAuthentication({ keysFile, logger: pino({ level: "silent" }) });
      const hosts = await startHosts(implementation, { authenticate: authentication.authenticate });
      authentication.onChange(() => hosts.pipeline.recheckCredentials());
      const clients = [
        createGrpcTransport({ baseUrl: `http://${hosts.grpcTarget}` }),
        createGrpcTransport({ baseUrl: hosts.httpUrl }),
        createConnectTransport({ baseUrl: hosts.httpUrl, httpVersion: "2" }),
      ].map((transport) => createClient(SessionService, transport));
      const streams = (await Promise.all(clients.map((client) => openStreams(client, headers)))).flat();
      const others = await openStreams(clients[0]!, { authorization: "Bearer other-key" });
      let othersEnded = 0;
      for (const other of others)
        void other.next().then(
          () => othersEnded++,
          () => othersEnded++,
        );

      const lostMs = countLostTime();
      const changedMs = performance.now();
      writeFileSync(keysFile, keyFile(...changed, OTHER));
      for (const stream of streams) {
        await assert.rejects(stream.next(), (error: ConnectError) => {
          assert.equal(error.code, Code.Unauthenticated);
          assert.equal(error.findDetails(ErrorInfoSchema)[0]?.reason, "CREDENTIAL_INVALID");
          return true;
        });
      }
      assert.ok(performance.now() - changedMs - lostMs() < 2_000);
      assert.equal(othersEnded, 0);
      authentication.close();
      await hosts.close();
    });
  }
});

test("without a file every caller is anonymous in the tenant default, with all scopes", () => {
  const { scopes, ...principal } = createAuthentication({ logger: pino({ level: "silent" }) }).authenticate({
    authorization: undefined,
  });
  assert.deepEqual(principal, { tenant: "default", name: "anonymous" });
  assert.deepEqual([...scopes].toSorted(), ["admin", "audit", "extend", "read", "watch", "write"]);
});

test("a changed file is loaded; a bad one is not, and the log says why", async () => {
  const path = fileWith(keyFile(ORDERS), "changing.json");
  let onLine: ((line: Record<string, unknown>) => void) | undefined;
  const logger = pino({ level: "info" }, { write: (line: string) => onLine?.(JSON.parse(line)) });
  const nextLine = () => new Promise<Record<string, unknown>>((resolve) => (onLine = resolve));
  const { authenticate, close } = createAuthentication({ keysFile: path, logger, pollIntervalMs: 5 });
  try {
    const refused = (error: SessionError) => error.reason === "CREDENTIAL_INVALID";
    assert.throws(() => authenticate({ authorization: "Bearer reader-key" }), refused);

    let line = nextLine();
    writeFileSync(path, keyFile(READER));
    assert.equal((await line)["level"], 30);
    assert.equal(authenticate({ authorization: "Bearer reader-key" }).name, "reader");
    assert.throws(() => authenticate({ authorization: "Bearer orders-key" }), refused);

    line = nextLine();
    writeFileSync(path, keyFile({ ...READER, scopes: ["all"] }, ORDERS));
    const { level, error } = await line;
    assert.equal(level, 50);
    assert.match(String(error), /keys\[0\]\.scopes/);
    assert.equal(authenticate({ authorization: "Bearer reader-key" }).name, "reader");

    line = nextLine();
    rmSync(path);
    assert.equal((await line)["level"], 50);
    assert.equal(authenticate({ authorization: "Bearer reader-key" }).name, "reader");

    line = nextLine();
    writeFileSync(path, keyFile(ORDERS));
    await line;
    assert.equal(authenticate({ authorization: "Bearer orders-key" }).name, "orders");
  } finally {
    close();
  }
});

test("a bad file at the start is refused with every fault", () => {
  const path = fileWith(keyFile({ ...ORDERS, name: "" }, { ...READER, sha256: "short" }), "bad.json");
  const logger = pino({ level: "silent" });
  assert.throws(() => createAuthentication({ keysFile: path, logger }), /keys\[0\]\.name.*keys\[1\]\.sha256/);
});

describe("parseApiKeys", () => {
  test("reads keys", () => {
    assert.deepEqual(
      parseApiKeys(keyFile(ORDERS, READER, OPERATOR)).map(({ principal, digest }) => ({
        ...principal,
        sha256: digest.toString("hex"),
        scopes: [...principal.scopes],
      })),
      [ORDERS, READER, OPERATOR],
    );
  });

  for (const [name, text, expected] of [
    ["no JSON", `{"sha256": "${ORDERS.sha256}`, ["is not JSON"]],
    ["no object", "[]", ['must be {"keys": [{"name", "tenant", "sha256", "scopes"}, …]}']],
    ["no key", keyFile(), ["keys: is empty, so nobody could call"]],
    ["no object as a key", '{"keys": [null]}', ["keys[0]: must be an object"]],
    [
      "everything wrong",
      '{"keys": [{"name": "", "tenant": "\\ud800", "sha256": "ff", "scopes": ["root"], "key": "x"}], "more": 1}',
      [
        "more: unknown member",
        "keys[0].key: unknown member",
        "keys[0].name: must be 1 to 256 bytes of text",
        "keys[0].tenant: must be 1 to 256 bytes of text",
        "keys[0].sha256: must be the SHA-256 of the key, 64 hexadecimal digits",
        "keys[0].scopes: must be a list of read, write, audit, watch, admin, extend",
      ],
    ],
    [
      "a key twice",
      keyFile(ORDERS, { ...ORDERS, sha256: ORDERS.sha256.toUpperCase() }),
      ["keys[1].name: is used twice", "keys[1].sha256: is used twice"],
    ],
  ] as const) {
    test(`names what is wrong: ${name}`, () => {
      assert.throws(() => parseApiKeys(text), { message: expected.join("; ") });
    });
  }
});
