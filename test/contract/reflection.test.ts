// Server reflection, both versions on both hosts: every kind of request, and real tools as clients.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { create, createFileRegistry, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import {
  ServerReflection,
  type ServerReflectionRequestSchema,
  type ServerReflectionResponse,
} from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as ServerReflectionAlpha } from "../../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { startHosts, type Hosts } from "../helpers/rpc_hosts.ts";

type ReflectionRequest = MessageInitShape<typeof ServerReflectionRequestSchema>["messageRequest"] & object;

const SERVICES = [
  "grpc.health.v1.Health",
  "grpc.reflection.v1.ServerReflection",
  "grpc.reflection.v1alpha.ServerReflection",
  "session.v1.SessionService",
];

let hosts: Hosts;
before(async () => (hosts = await startHosts({})));
after(() => hosts.close());

/** Clients of both versions, over both hosts and over Connect's own protocol. */
const clients = () =>
  [
    createGrpcTransport({ baseUrl: `http://${hosts.grpcTarget}` }),
    createGrpcTransport({ baseUrl: hosts.httpUrl }),
    createConnectTransport({ baseUrl: hosts.httpUrl, httpVersion: "2" }),
  ].flatMap((transport) =>
    [ServerReflection, ServerReflectionAlpha].map((service) => {
      const client = createClient(service as typeof ServerReflection, transport);
      return async (messageRequest: ReflectionRequest) => {
        async function* requests() {
          yield { host: "h", messageRequest };
        }
        const responses: ServerReflectionResponse[] = [];
        for await (const response of client.serverReflectionInfo(requests())) responses.push(response);
        assert.equal(responses.length, 1);
        const { validHost, originalRequest, messageResponse } = responses[0]!;
        assert.equal(validHost, "h");
        assert.equal(originalRequest?.messageRequest.case, messageRequest.case);
        return messageResponse;
      };
    }),
  );

type Reflect = ReturnType<typeof clients>[number];

async function filesOf(reflect: Reflect, request: ReflectionRequest) {
  const response = await reflect(request);
  assert.equal(response.case, "fileDescriptorResponse");
  return response.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
}

async function errorOf(reflect: Reflect, request: ReflectionRequest) {
  const response = await reflect(request);
  assert.equal(response.case, "errorResponse");
  return response.value.errorCode;
}

describe("the service", () => {
  test("lists what is served", async () => {
    for (const reflect of clients()) {
      const response = await reflect({ case: "listServices", value: "" });
      assert.equal(response.case, "listServicesResponse");
      assert.deepEqual(response.value.service.map(({ name }) => name).toSorted(), SERVICES);
    }
  });

  test("responds with a file and everything it imports, so that a client can rebuild the contract", async () => {
    for (const reflect of clients()) {
      const file = await filesOf(reflect, { case: "fileContainingSymbol", value: "session.v1.SessionService" });
      assert.equal(file[0]?.name, "session/v1/session_service.proto");
      const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: file.toReversed() }));
      const service = registry.getService("session.v1.SessionService");
      assert.deepEqual(
        service?.methods.map(({ name }) => name),
        SessionService.methods.map(({ name }) => name),
      );
      // The rules are options of a file that a client must be able to get too.
      assert.ok(registry.getExtension("buf.validate.field"));
      for (const { name, dependency } of file) {
        assert.equal((await filesOf(reflect, { case: "fileByFilename", value: name }))[0]?.name, name);
        for (const imported of dependency)
          assert.ok(
            file.some((other) => other.name === imported),
            imported,
          );
      }
    }
  });

  test("finds the file of any symbol", async () => {
    const fileOfSymbol = {
      "session.v1.SessionService": "session/v1/session_service.proto",
      "session.v1.SessionService.RotateToken": "session/v1/session_service.proto",
      "session.v1.Session": "session/v1/session.proto",
      "session.v1.Session.FieldsEntry": "session/v1/session.proto",
      "session.v1.Session.user_id": "session/v1/session.proto",
      "session.v1.ValidateEntry.handle": "session/v1/bulk_validation.proto",
      "session.v1.Verdict": "session/v1/session.proto",
      "session.v1.VERDICT_VALID": "session/v1/session.proto",
      "grpc.health.v1.HealthCheckResponse.ServingStatus": "grpc/health/v1/health.proto",
      "grpc.health.v1.HealthCheckResponse.SERVING": "grpc/health/v1/health.proto",
      "google.protobuf.Struct": "google/protobuf/struct.proto",
      "buf.validate.FieldRules": "buf/validate/validate.proto",
      "buf.validate.field": "buf/validate/validate.proto",
    };
    for (const reflect of clients()) {
      for (const [symbol, name] of Object.entries(fileOfSymbol)) {
        const [file] = await filesOf(reflect, { case: "fileContainingSymbol", value: symbol });
        assert.equal(file?.name, name, symbol);
      }
    }
  });

  test("finds extensions", async () => {
    const containingType = "google.protobuf.FieldOptions";
    for (const reflect of clients()) {
      const numbers = await reflect({ case: "allExtensionNumbersOfType", value: containingType });
      assert.equal(numbers.case, "allExtensionNumbersResponse");
      assert.equal(numbers.value.baseTypeName, containingType);
      assert.ok(numbers.value.extensionNumber.includes(1159));
      const value = { containingType, extensionNumber: 1159 };
      const [file] = await filesOf(reflect, { case: "fileContainingExtension", value });
      assert.equal(file?.name, "buf/validate/validate.proto");
      const none = await reflect({ case: "allExtensionNumbersOfType", value: "session.v1.Session" });
      assert.equal(none.case, "allExtensionNumbersResponse");
      assert.deepEqual(none.value.extensionNumber, []);
    }
  });

  test("reports what it does not know", async () => {
    for (const reflect of clients()) {
      assert.equal(await errorOf(reflect, { case: "fileByFilename", value: "nope.proto" }), 5);
      assert.equal(await errorOf(reflect, { case: "fileContainingSymbol", value: "session.v1.Nope" }), 5);
      assert.equal(await errorOf(reflect, { case: "allExtensionNumbersOfType", value: "session.v1.Nope" }), 5);
      const value = { containingType: "session.v1.Session", extensionNumber: 1 };
      assert.equal(await errorOf(reflect, { case: "fileContainingExtension", value }), 5);
      assert.equal(await errorOf(reflect, { case: undefined }), 3);
    }
  });
});

const run = promisify(execFile);

const grpcurl = [...(process.env["PATH"] ?? "").split(delimiter), join(homedir(), "go/bin")]
  .map((directory) => join(directory, "grpcurl"))
  .find((path) => existsSync(path));

describe("grpcurl", { skip: grpcurl === undefined ? "grpcurl is not installed" : false }, () => {
  test("lists and describes on both ports", async () => {
    for (const target of [hosts.grpcTarget, hosts.httpTarget]) {
      const list = await run(grpcurl!, ["-plaintext", target, "list"]);
      assert.deepEqual(list.stdout.trim().split("\n"), SERVICES);
      const service = await run(grpcurl!, ["-plaintext", target, "describe", "session.v1.SessionService"]);
      for (const { name } of SessionService.methods) assert.match(service.stdout, new RegExp(`rpc ${name} `));
      const symbol = "session.v1.GetSessionRequest.session_id";
      const field = await run(grpcurl!, ["-plaintext", target, "describe", symbol]);
      assert.match(field.stdout, /min_len:1|min_len: 1/);
    }
  });
});

describe("buf curl", () => {
  test("lists over every protocol", async () => {
    const listed = async (url: string, protocol: string) => {
      const args = ["curl", "--protocol", protocol, "--http2-prior-knowledge", "--list-methods", url];
      const { stdout } = await run(join(import.meta.dirname, "../../node_modules/.bin/buf"), args);
      return stdout.trim().split("\n");
    };
    for (const [url, protocol] of [
      [`http://${hosts.grpcTarget}`, "grpc"],
      [hosts.httpUrl, "grpc"],
      [hosts.httpUrl, "grpcweb"],
      [hosts.httpUrl, "connect"],
    ] as const) {
      assert.ok((await listed(url, protocol)).includes("session.v1.SessionService/ValidateStream"), protocol);
    }
  });
});
