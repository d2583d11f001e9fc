// The JSON Schemas of messages and enums: the JSON mapping of protobuf, with comments as descriptions.

import { getOption, ScalarType, type DescEnum, type DescField, type DescMessage } from "@bufbuild/protobuf";
import { message as messageRules } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { commentOf } from "./comments.ts";
import { constraintsOf, isRequired, rulesOf, type JsonSchema } from "./rules.ts";

export const SCHEMA_PATH = "#/components/schemas/";

const SCALARS: Readonly<Partial<Record<ScalarType, JsonSchema>>> = {
  [ScalarType.STRING]: { type: "string" },
  [ScalarType.BOOL]: { type: "boolean" },
  [ScalarType.INT32]: { type: "integer", format: "int32" },
  [ScalarType.INT64]: { type: "string", format: "int64", pattern: "^-?[0-9]+$" },
};

/** The messages that have a form of their own in JSON. */
const WELL_KNOWN: Readonly<Record<string, JsonSchema>> = {
  "google.protobuf.Timestamp": { type: "string", format: "date-time" },
  "google.protobuf.Duration": { type: "string", pattern: String.raw`^-?[0-9]+(\.[0-9]{1,9})?s$`, examples: ["3600s"] },
  "google.protobuf.Struct": { type: "object", additionalProperties: true },
  "google.protobuf.FieldMask": { type: "string", examples: ["idleTimeout,deviceName"] },
};

export type Schemas = {
  /** Returns a reference to a message or an enum, and keeps the schemas of both it and what it contains. */
  reference(type: DescMessage | DescEnum): JsonSchema;
  /** All schemas that are kept, by name. */
  all(): Record<string, JsonSchema>;
};

/** The types of `mainPackage` are named without it. */
export function createSchemas(mainPackage: string): Schemas {
  const schemas = new Map<string, JsonSchema>();

  function reference(type: DescMessage | DescEnum): JsonSchema {
    const name = type.typeName.replace(`${mainPackage}.`, "");
    if (!schemas.has(name)) {
      // Kept before its fields are described, because a message can contain itself.
      const schema: JsonSchema = {};
      schemas.set(name, schema);
      Object.assign(schema, type.kind === "enum" ? enumSchema(type) : messageSchema(type, reference));
    }
    return { $ref: SCHEMA_PATH + name };
  }

  return {
    reference,
    all: () => Object.fromEntries([...schemas].toSorted(([a], [b]) => (a < b ? -1 : 1))),
  };
}

function enumSchema(type: DescEnum): JsonSchema {
  const values = type.values.map((value) => `- ${value.name}: ${commentOf(value)}`);
  return {
    type: "string",
    description: `${commentOf(type)}\n\n${values.join("\n")}`,
    enum: type.values.map(({ name }) => name),
  };
}

function messageSchema(message: DescMessage, reference: Schemas["reference"]): JsonSchema {
  const { cel } = getOption(message, messageRules);
  const rules = cel.map((rule) => `Rule: ${rule.message}.`);
  const required = message.fields.filter(isRequired).map(({ jsonName }) => jsonName);
  return {
    type: "object",
    description: [commentOf(message), ...rules].join("\n\n"),
    ...(required.length > 0 && { required }),
    properties: Object.fromEntries(
      message.fields.map((field) => [
        field.jsonName,
        { ...fieldSchema(field, reference), description: commentOf(field) },
      ]),
    ),
    ...atMostOneOfEach(message),
  };
}

function fieldSchema(field: DescField, reference: Schemas["reference"]): JsonSchema {
  const rules = rulesOf(field);
  const valueSchema = () => {
    if (field.message !== undefined) return wellKnown(field.message) ?? reference(field.message);
    if (field.enum !== undefined) return reference(field.enum);
    const schema = SCALARS[field.scalar!];
    if (schema === undefined)
      throw new Error(`scripts/openapi/schemas.ts: no schema for the type of ${field.toString()}`);
    return schema;
  };
  if (field.fieldKind === "list") {
    const items = { ...valueSchema(), ...constraintsOf(rules.repeated?.items ?? {}) };
    return { type: "array", items, ...constraintsOf(rules) };
  }
  if (field.fieldKind === "map") {
    const additionalProperties = { ...valueSchema(), ...constraintsOf(rules.map?.values ?? {}) };
    return { type: "object", additionalProperties, ...constraintsOf(rules) };
  }
  return { ...valueSchema(), ...constraintsOf(rules) };
}

function wellKnown(message: DescMessage): JsonSchema | undefined {
  if (!message.typeName.startsWith("google.protobuf.")) return undefined;
  const schema = WELL_KNOWN[message.typeName];
  if (schema === undefined) throw new Error(`scripts/openapi/schemas.ts: no schema for ${message.typeName}`);
  return schema;
}

/** Excludes every two fields of a oneof together. */
function atMostOneOfEach(message: DescMessage): JsonSchema {
  const pairs = message.oneofs.flatMap(({ fields }) =>
    fields.flatMap((a, index) => fields.slice(index + 1).map((b) => ({ required: [a.jsonName, b.jsonName] }))),
  );
  return pairs.length === 0 ? {} : { not: { anyOf: pairs } };
}
