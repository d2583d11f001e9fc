// What only the HTTP port has: content types, methods of HTTP, CORS, the policy for JSON, and names of hosts.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect as connectHttp2 } from "node:http2";
import { connect as connectTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { CreateSessionRequestSchema, CreateSessionResponseSchema } from "../../gen/session/v1/simple_sessions_pb.ts";
import { grpcFrame, onMessages, openRpc } from "../helpers/raw_stream.ts";
import { pathOf, postJson, startHosts, wireErrorOfJson, type Hosts } from "../helpers/rpc_hosts.ts";

const { createSession } = SessionService.method;
const PATH = pathOf(createSession);
const APP = "https://app.example.com";

const implementation = {
  async createSession({ userId }: { userId: string }) {
    return { session: { userId } };
  },
};

let hosts: Hosts;
before(async () => (hosts = await startHosts(implementation, { corsOrigins: [APP, "http://localhost:3000"] })));
after(() => hosts.close());

const post = (
  contentType: string,
  headers: Record<string, string> = {},
  body: string | Uint8Array = '{"userId":"eve"}',
) =>
  fetch(hosts.httpUrl + PATH, {
    method: "POST",
    body: Buffer.from(body),
    headers: { "content-type": contentType, ...headers },
  });

describe("a content type", () => {
  for (const contentType of [
    "application/json",
    "application/json;charset=UTF-8",
    'application/json ; charset="utf-8"',
    "Application/JSON;  Charset=utf8",
    "application/json; charset=utf-8; profile=x",
    "application/json;",
  ]) {
    test(`${contentType} is JSON`, async () => {
      const response = await post(contentType);
      assert.deepEqual([response.status, await response.json()], [200, { session: { userId: "eve" } }]);
    });
  }

  for (const contentType of ["application/json; charset=latin1", "text/json", "json", "application/grpc-web+text"]) {
    test(`${contentType} is 415`, async () => {
      const response = await post(contentType);
      assert.equal(response.status, 415);
      assert.match(await response.text(), /send content-type: application\/json, /);
    });
  }

  for (const contentType of ["application/grpc-web-text", "application/grpc-web-text+proto"]) {
    test(`${contentType} is 415 with what to do instead`, async () => {
      const response = await post(contentType, {}, "AAAAAAA=");
      assert.equal(response.status, 415);
      assert.match(await response.text(), /grpc-web-text is not supported; .*application\/grpc-web\+proto/);
    });
  }
});

describe("a method of HTTP", () => {
  const request = async (method: string, path: string) => {
    const response = await fetch(hosts.httpUrl + path, { method });
    await response.text();
    return [response.status, response.headers.get("allow")];
  };

  test("that a path does not have is 405 with those that it has", async () => {
    for (const method of ["GET", "PUT", "DELETE"]) {
      assert.deepEqual(await request(method, PATH), [405, "POST, OPTIONS"], method);
    }
    assert.deepEqual(await request("POST", "/healthz"), [405, "GET, HEAD, OPTIONS"]);
  });

  test("OPTIONS has those of the path", async () => {
    assert.deepEqual(await request("OPTIONS", PATH), [204, "POST, OPTIONS"]);
    assert.deepEqual(await request("OPTIONS", "/readyz"), [204, "GET, HEAD, OPTIONS"]);
    assert.deepEqual(await request("OPTIONS", "/nope"), [404, null]);
  });
});

describe("CORS", () => {
  const accessHeaders = ({ headers }: Response) =>
    Object.fromEntries([...headers].filter(([name]) => name.startsWith("access-control-") || name === "vary"));
  const preflight = (url: string, origin: string) => {
    const headers = { origin, "access-control-request-method": "POST", "access-control-request-headers": "x" };
    return fetch(url + PATH, { method: "OPTIONS", headers });
  };

  test("a preflight request of an allowed origin names what scripts may send", async () => {
    const response = await preflight(hosts.httpUrl, APP);
    assert.equal(response.status, 204);
    const headers = accessHeaders(response);
    assert.equal(headers["access-control-allow-origin"], APP);
    assert.equal(headers["access-control-allow-methods"], "POST, GET");
    const allowed = headers["access-control-allow-headers"]!.toLowerCase().split(", ");
    for (const name of ["authorization", "content-type", "connect-protocol-version", "x-grpc-web", "grpc-timeout"]) {
      assert.ok(allowed.includes(name), name);
    }
    assert.equal(headers["access-control-max-age"], "7200");
    assert.equal(headers["vary"], "Origin");
  });

  test("a call of an allowed origin can be read by its script, and so can its error", async () => {
    for (const body of ['{"userId":"eve"}', "{}{"]) {
      const headers = accessHeaders(await post("application/json", { origin: APP }, body));
      assert.equal(headers["access-control-allow-origin"], APP);
      assert.match(headers["access-control-expose-headers"]!, /Grpc-Status/i);
    }
    const notFound = await post("text/plain", { origin: APP });
    assert.equal(accessHeaders(notFound)["access-control-allow-origin"], APP);
  });

  test("other origins, and calls without one, get no such headers, but responses that vary", async () => {
    for (const origin of ["https://evil.example.com", "null", `${APP}.evil.com`]) {
      assert.deepEqual(accessHeaders(await preflight(hosts.httpUrl, origin)), { vary: "Origin" });
      assert.deepEqual(accessHeaders(await post("application/json", { origin })), { vary: "Origin" });
    }
    assert.deepEqual(accessHeaders(await post("application/json")), { vary: "Origin" });
  });

  test("is off by default, and can be open to all", async () => {
    for (const [corsOrigins, expected] of [
      [undefined, undefined],
      [["*"], "*"],
    ] as const) {
      const others = await startHosts(implementation, { ...(corsOrigins && { corsOrigins }) });
      const headers = accessHeaders(await preflight(others.httpUrl, APP));
      assert.equal(headers["access-control-allow-origin"], expected);
      assert.equal(headers["vary"], undefined);
      await others.close();
    }
  });
});

test("an unknown name in JSON is refused, and the error names it", async () => {
  for (const body of ['{"userId": "u", "idleTimout": "5s"}', '{"userId": "u", "limit": {"idleTimout": 1}}']) {
    const { status, json } = await postJson(hosts.httpUrl, createSession, body);
    const { code, reason, message } = wireErrorOfJson(json as never);
    assert.deepEqual([status, code, reason], [400, "INVALID_ARGUMENT", "INVALID_REQUEST"]);
    assert.match(message, /"idleTimout" is unknown/);
  }
});

test("any :authority is served, as clients send them over a Unix socket", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "sa-authority-"));
  const path = join(directory, "http.sock");
  const onSocket = await startHosts(implementation, { httpAddress: { kind: "unix", path } });
  t.after(async () => {
    await onSocket.close();
    rmSync(directory, { recursive: true });
  });
  const session = connectHttp2("http://localhost", { createConnection: () => connectTcp(path) });
  const request = create(CreateSessionRequestSchema, { userId: "eve" });
  for (const authority of [path.replaceAll("/", "%2F"), "localhost:", "[::1"]) {
    const stream = openRpc(session, createSession, { ":authority": authority });
    const message = new Promise<Buffer>((resolve, reject) => {
      onMessages(stream, ([first]) => resolve(first!));
      stream.on("error", () => undefined);
      stream.once("close", () => reject(new Error(`no response for ${JSON.stringify(authority)}`)));
    });
    stream.end(grpcFrame(toBinary(CreateSessionRequestSchema, request)));
    assert.equal(fromBinary(CreateSessionResponseSchema, await message).session?.userId, "eve", authority);
  }
  session.destroy();
  await once(session, "close");
});
