// The OpenAPI document of a service: its unary methods as Connect serves them to HTTP clients that send JSON.

import type { DescFile, DescMessage, DescMethod, DescService } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { codeToHttpStatus, codeToString } from "@connectrpc/connect/protocol-connect";
import { commentOf, packageCommentOf } from "./comments.ts";
import { createSchemas, SCHEMA_PATH } from "./schemas.ts";

/** The messages that the details of an error can be. */
const DETAIL_TYPES = ["google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RetryInfo"];
const JSON_TYPE = "application/json";

/** `files` must contain the service's file and google/rpc/error_details.proto. */
export function openApiDocument(service: DescService, files: readonly DescFile[]): object {
  const schemas = createSchemas(service.file.proto.package);
  const unary = service.methods.filter(({ methodKind }) => methodKind === "unary");
  const streams = service.methods.filter(({ methodKind }) => methodKind !== "unary").map(({ name }) => name);
  const paths = Object.fromEntries(
    unary.map((method) => [`/${service.typeName}/${method.name}`, { post: operation(method, schemas.reference) }]),
  );
  const tagFiles = new Set(unary.map(({ input }) => input.file));
  const errorSchemas = errorSchemasOf(files, schemas.reference);
  return {
    openapi: "3.1.0",
    info: {
      title: service.name,
      version: service.file.proto.package.split(".").at(-1),
      description: `${commentOf(service)}\n\n${notes(streams)}`,
    },
    servers: [{ url: "/", description: "The HTTP port of the service." }],
    security: [{ apiKey: [] }, {}],
    tags: Array.from(tagFiles, (file) => ({ name: tagOf(file), description: packageCommentOf(file) })),
    paths,
    components: {
      schemas: { ...schemas.all(), ...errorSchemas },
      parameters: { ConnectTimeoutMs: TIMEOUT_HEADER },
      responses: { Error: errorResponse() },
      securitySchemes: {
        apiKey: { type: "http", scheme: "bearer", description: "An API key, if the service has API keys configured." },
      },
    },
  };
}

function notes(streams: readonly string[]): string {
  return [
    "Send each request as JSON with POST.",
    "JSON names the fields in lowerCamelCase; the snake_case names of these descriptions are accepted too.",
    "Unknown fields are refused. Responses leave out fields that have their default value: 0, false, an empty string or",
    "list, or the enum value that ends in UNSPECIFIED. 64-bit integers are strings in responses, and may be numbers in",
    "requests. maxLength counts characters; the limit of the service counts bytes of UTF-8, as the description says.",
    `${streams.join(" and ")} are streams and not described here: call them over gRPC or Connect.`,
  ].join("\n");
}

function operation(method: DescMethod, reference: (message: DescMessage) => object): object {
  return {
    operationId: method.name,
    tags: [tagOf(method.input.file)],
    description: commentOf(method),
    parameters: [{ $ref: "#/components/parameters/ConnectTimeoutMs" }],
    requestBody: { required: true, content: { [JSON_TYPE]: { schema: reference(method.input) } } },
    responses: {
      200: { description: commentOf(method.output), content: { [JSON_TYPE]: { schema: reference(method.output) } } },
      default: { $ref: "#/components/responses/Error" },
    },
  };
}

/** The comment of a file begins with the name of its family of methods: "Simple sessions: a record with …". */
function tagOf(file: DescFile): string {
  const [name, description] = packageCommentOf(file).split(":", 2);
  if (description === undefined) throw new Error(`${file.name}: its first comment has no "Family of methods: …"`);
  return name!;
}

const TIMEOUT_HEADER = {
  name: "Connect-Timeout-Ms",
  in: "header",
  description: "The deadline of the call in milliseconds. Without it, the server's SA_REQUEST_TIMEOUT applies.",
  schema: { type: "integer", minimum: 1, maximum: 9_999_999_999 },
};

function errorResponse(): object {
  const statuses = errorCodes().map((code) => `${codeToHttpStatus(code)} ${codeToString(code)}`);
  return {
    description: `The call failed. The HTTP status follows from the code: ${statuses.join(", ")}.`,
    content: { [JSON_TYPE]: { schema: { $ref: `${SCHEMA_PATH}Error` } } },
  };
}

function errorCodes(): Code[] {
  return Object.values(Code).filter((code) => typeof code === "number");
}

/** The form that Connect gives an error in JSON. */
function errorSchemasOf(files: readonly DescFile[], reference: (message: DescMessage) => object): object {
  const messages = files.flatMap((file) => file.messages);
  const details = DETAIL_TYPES.map((type) => {
    const message = messages.find(({ typeName }) => typeName === type)!;
    return { properties: { type: { const: type }, debug: reference(message) } };
  });
  const code = { type: "string", enum: errorCodes().map(codeToString) };
  return {
    Error: {
      type: "object",
      description: "An error. Make decisions by the reason in its google.rpc.ErrorInfo, not by its message.",
      required: ["code"],
      properties: {
        code: { ...code, description: "The gRPC code in lower case." },
        message: { type: "string", description: "What went wrong, for people." },
        details: {
          type: "array",
          description: "The details. Failures of the protocol itself have none.",
          items: { $ref: `${SCHEMA_PATH}ErrorDetail` },
        },
      },
    },
    ErrorDetail: {
      type: "object",
      description: "A detail of an error: a message of google.rpc.",
      required: ["type", "value"],
      properties: {
        type: { type: "string", description: "The full name of the message." },
        value: { type: "string", description: "The message in binary form, as base64 without padding." },
        debug: { type: "object", description: "The same message as JSON." },
      },
      oneOf: details,
    },
  };
}
