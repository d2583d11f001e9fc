// The OpenAPI document at /openapi.json is valid, and the service answers JSON requests as the document says.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Validator } from "@seriousme/openapi-schema-validator";
import { Ajv2020 } from "ajv/dist/2020.js";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

type Schema = {
  $ref?: string;
  type?: string;
  required?: string[];
  properties?: Record<string, Schema>;
  items?: Schema;
};
type Content = { content: { "application/json": { schema: Schema } } };
type Operation = { requestBody: Content; responses: { 200: Content; default: { $ref: string } } };
type Document = {
  openapi: string;
  paths: Record<string, { post: Operation }>;
  components: { schemas: Record<string, Schema>; responses: Record<string, Content> };
};
type Json = { [member: string]: unknown };
type ErrorBody = { code: string; details: { type: string; debug: { fieldViolations?: { field?: string }[] } }[] };

const skip = redisServerMissing();
const UNARY = SessionService.methods.filter(({ methodKind }) => methodKind === "unary");
const USER = "oona";

let authorities: Authorities;
let document: Document;
let ajv: Ajv2020;

before(async () => {
  if (skip) return;
  authorities = await startAuthorities({ touchIntervalMs: 0 });
  document = (await (await fetch(url("/openapi.json"))).json()) as Document;
  ajv = new Ajv2020({ strict: false, validateFormats: false, allErrors: true });
  ajv.addSchema(withoutFurtherMembers(document), "document");
});
after(async () => {
  if (skip) return;
  await authorities.close();
});

const url = (path: string) => `http://${authorities.httpAddresses[0]}${path}`;

/** Refuses members that the document does not have. Callers must accept them, since the contract can grow. */
function withoutFurtherMembers(original: Document): Document {
  const strict = structuredClone(original);
  for (const schema of Object.values(strict.components.schemas)) Object.assign(schema, { additionalProperties: false });
  return strict;
}

const pathOf = (method: string) => `/${SessionService.typeName}/${method}`;
const operationOf = (method: string) => document.paths[pathOf(method)]!.post;

/** Returns what is wrong with a value according to a schema of the document; undefined if nothing is. */
function faultsOf(schema: Schema, value: unknown): string | undefined {
  const validate = ajv.compile({ $ref: `document${schema.$ref}` });
  return validate(value) ? undefined : ajv.errorsText(validate.errors);
}
const schemaOf = ({ content }: Content) => content["application/json"].schema;

async function post(method: string, request: Json): Promise<{ status: number; body: Json }> {
  const headers = { "content-type": "application/json", "connect-timeout-ms": "5000" };
  const response = await fetch(url(pathOf(method)), { method: "POST", headers, body: JSON.stringify(request) });
  return { status: response.status, body: (await response.json()) as Json };
}

/** Makes a call that must succeed. Request and response must be what the document says. */
async function call(method: string, request: Json): Promise<Json> {
  const { requestBody, responses } = operationOf(method);
  assert.equal(faultsOf(schemaOf(requestBody), request), undefined, `${method}: the request`);
  const { status, body } = await post(method, request);
  assert.equal(status, 200, `${method}: ${JSON.stringify(body)}`);
  assert.equal(faultsOf(schemaOf(responses[200]), body), undefined, `${method}: the response`);
  return body;
}

/** Makes a call that must fail, with an error of the form that the document says. */
async function callFails(method: string, request: Json): Promise<{ status: number; error: ErrorBody }> {
  const { status, body } = await post(method, request);
  const [, name] = /^#\/components\/responses\/(.*)$/.exec(operationOf(method).responses.default.$ref)!;
  const faults = faultsOf(schemaOf(document.components.responses[name!]!), body);
  assert.equal(faults, undefined, `${method}: ${JSON.stringify(body)}`);
  return { status, error: body as ErrorBody };
}

const sessionOf = (response: Json) => ({
  sessionId: (response["session"] as { sessionId: string }).sessionId,
});

describe("the OpenAPI document", { skip }, () => {
  test("is valid OpenAPI 3.1", async () => {
    const { valid, errors } = await new Validator().validate(structuredClone(document));
    assert.deepEqual([valid, errors], [true, undefined]);
    assert.equal(document.openapi, "3.1.0");
  });

  test("has every method that is not a stream", () => {
    const paths = Object.keys(document.paths);
    assert.deepEqual(
      paths,
      UNARY.map(({ name }) => pathOf(name)),
    );
  });

  test("describes every method, message, field and value", () => {
    const undescribed: string[] = [];
    const visit = (node: unknown, path: string) => {
      if (typeof node !== "object" || node === null) return;
      for (const [name, value] of Object.entries(node)) visit(value, `${path}/${name}`);
      if ("description" in node && node.description === "") undescribed.push(path);
    };
    visit(document, "");
    assert.deepEqual(undescribed, []);
  });

  test("is served to HEAD requests and not to POST", async () => {
    const head = await fetch(url("/openapi.json"), { method: "HEAD" });
    assert.deepEqual([head.status, head.headers.get("content-type")], [200, "application/json"]);
    assert.equal((await fetch(url("/openapi.json"), { method: "POST" })).status, 405);
  });
});

describe("the service answers as the document says", { skip }, () => {
  test("simple sessions, their listing and the audit trail", async () => {
    const created = await call("CreateSession", {
      userId: USER,
      data: { theme: "dark", list: [1, null] },
      idleTimeout: "3600s",
      limit: { maxSessions: 10, onExceed: "ON_EXCEED_EVICT_OLDEST" },
      ipAddress: "192.0.2.1",
      ipBinding: "IP_BINDING_WARN",
      authentication: { time: new Date(Date.now() - 1000).toISOString(), methods: ["pwd"], level: 1 },
    });
    const { sessionId } = sessionOf(created);
    await call("GetSession", { sessionId, ipAddress: "192.0.2.2" });
    await call("ValidateSession", { sessionId });
    await call("UpdateSessionData", { sessionId, data: { lang: "en" }, merge: true, expectedVersion: "1" });
    await call("ListUserSessions", { userId: USER, pageSize: 10 });
    await call("DeleteSession", { sessionId });
    assert.equal((await call("ExplainSession", { sessionId }))["state"], "SESSION_STATE_ENDED");
    await call("ListAuditEvents", { userId: USER, types: ["AUDIT_EVENT_TYPE_CREATED"] });
    const another = sessionOf(await call("CreateSession", { userId: USER }));
    await call("UpdateSession", {
      ...another,
      updateMask: "idleTimeout,labels",
      idleTimeout: "60s",
      labels: { app: "a" },
    });
    await call("RecordAuthentication", { ...another, authentication: { methods: ["otp"], level: 2 } });
    await call("GetServerTime", {});
    assert.equal((await call("DeleteUserSessions", { userId: USER }))["deletedCount"], 1);
  });

  test("hash, secure and device sessions, and bulk validation", async () => {
    const hash = await call("CreateHashSession", { userId: USER, fields: { step: "payment" } });
    const { sessionId } = sessionOf(hash);
    await call("SetSessionFields", { sessionId, fields: { count: "1" }, remove: ["step"] });
    await call("IncrementSessionField", { sessionId, field: "count", delta: "2" });
    await call("GetSessionField", { sessionId, field: "count" });
    await call("GetSessionFields", { sessionId });
    const { token } = await call("CreateSecureSession", { userId: USER });
    await call("ValidateToken", { token });
    const rotated = await call("RotateToken", { token });
    const entries = [{ sessionId, touch: true }, { token: rotated["token"] }, { sessionId: "nonsense" }];
    await call("BatchValidate", { entries });
    await call("RegenerateSession", { sessionId, grace: "1.5s" });
    const device = { deviceId: "phone-1", name: "Oona's phone", type: "DEVICE_TYPE_MOBILE" };
    await call("CreateDeviceSession", { userId: USER, device });
    await call("GetDeviceSession", { deviceId: "phone-1" });
    await call("ListUserDevices", { userId: USER });
    await call("RevokeDevice", { userId: USER, deviceId: "phone-1" });
    await call("RevokeToken", { token: rotated["token"] });
  });

  test("a request without its required fields is refused, and the error names them", async () => {
    const refused: string[] = [];
    for (const { name } of UNARY) {
      const schema = document.components.schemas[`${name}Request`]!;
      for (const missing of schema.required ?? []) {
        const { status, error } = await callFails(name, {});
        assert.deepEqual([status, error.code], [400, "invalid_argument"], name);
        const violations = error.details.flatMap(({ debug }) => debug.fieldViolations ?? []);
        // A rule of the whole message names no field.
        const jsonNames = violations.map(({ field = "" }) =>
          field.replaceAll(/_([a-z])/g, (_, letter) => letter.toUpperCase()),
        );
        assert.ok(jsonNames.includes(missing), `${name}: ${missing} is not in ${jsonNames.join()}`);
        refused.push(`${name}.${missing}`);
      }
    }
    assert.ok(refused.includes("ListUserSessions.userId"));
    assert.ok(refused.includes("BatchValidate.entries"));
  });

  test("what the document refuses, the service refuses", async () => {
    const requests: [string, Json][] = [
      ["CreateSession", { userId: "u".repeat(257) }],
      ["CreateSession", { userId: USER, limit: { maxSessions: 0 } }],
      ["CreateSession", { userId: USER, ipBinding: "NONSENSE" }],
      ["CreateSession", { userId: USER, idleTimeout: "1h" }],
      ["CreateSession", { userId: USER, nonsense: 1 }],
      ["CreateHashSession", { userId: USER, fields: { version: "reserved" } }],
      ["CreateDeviceSession", { userId: USER, device: { name: "without an id" } }],
      ["ListUserSessions", { userId: USER, pageSize: 1001 }],
      ["BatchValidate", { entries: [{ sessionId: "a", token: "b" }] }],
      ["UpdateSessionData", { sessionId: "a", expectedVersion: "one" }],
    ];
    for (const [method, request] of requests) {
      assert.notEqual(faultsOf(schemaOf(operationOf(method).requestBody), request), undefined, method);
      const { status, error } = await callFails(method, request);
      assert.deepEqual([status, error.code], [400, "invalid_argument"], JSON.stringify(request));
    }
  });

  test("errors with other statuses, and those of the protocol itself", async () => {
    const notFound = await callFails("GetSession", { sessionId: "A".repeat(28) });
    assert.deepEqual([notFound.status, notFound.error.code], [404, "not_found"]);
    assert.equal(notFound.error.details[0]!.type, "google.rpc.ErrorInfo");
    const tooLarge = await callFails("CreateSession", { userId: USER, data: { text: "x".repeat(300_000) } });
    assert.deepEqual([tooLarge.status, tooLarge.error.code], [429, "resource_exhausted"]);
  });
});
