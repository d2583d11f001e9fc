// The rules of buf.validate that JSON Schema can express. The others are only in the comments of the contract.

import { getOption, toJson, type DescField } from "@bufbuild/protobuf";
import { FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";
import { field as fieldRules, FieldRulesSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

export type JsonSchema = { [keyword: string]: unknown };

/** The rules of a field, as JSON that has only the rules that are set. 64-bit numbers are strings in it. */
export type Rules = {
  readonly required?: boolean;
  readonly ignore?: string;
  readonly string?: {
    readonly const?: string;
    readonly len?: string;
    readonly minLen?: string;
    readonly maxLen?: string;
    readonly minBytes?: string;
    readonly maxBytes?: string;
    readonly pattern?: string;
    readonly in?: readonly string[];
    readonly notIn?: readonly string[];
  };
  readonly int32?: NumberRules;
  readonly repeated?: {
    readonly minItems?: string;
    readonly maxItems?: string;
    readonly unique?: boolean;
    readonly items?: Rules;
  };
  readonly map?: {
    readonly minPairs?: string;
    readonly maxPairs?: string;
    readonly keys?: Rules;
    readonly values?: Rules;
  };
};

type NumberRules = { readonly gt?: number; readonly gte?: number; readonly lt?: number; readonly lte?: number };

export function rulesOf(field: DescField): Rules {
  return toJson(FieldRulesSchema, getOption(field, fieldRules)) as Rules;
}

/** Returns the keywords that constrain a value as the rules do. Every value that the rules allow passes them. */
export function constraintsOf({ string = {}, int32 = {}, repeated = {}, map = {} }: Rules): JsonSchema {
  return withoutUndefined({
    const: string.const,
    minLength: asNumber(string.len ?? string.minLen),
    // A text has at most as many characters as bytes.
    maxLength: asNumber(string.len ?? string.maxLen ?? string.maxBytes),
    pattern: string.pattern,
    enum: string.in,
    not: string.notIn && { enum: string.notIn },
    minimum: int32.gte,
    exclusiveMinimum: int32.gt,
    maximum: int32.lte,
    exclusiveMaximum: int32.lt,
    minItems: asNumber(repeated.minItems),
    maxItems: asNumber(repeated.maxItems),
    uniqueItems: repeated.unique,
    minProperties: asNumber(map.minPairs),
    maxProperties: asNumber(map.maxPairs),
    propertyNames: map.keys && constraintsOf(map.keys),
  });
}

/** Returns true if a message without the field is refused: it is required, or its default value breaks a rule. */
export function isRequired(field: DescField): boolean {
  const { required, ignore, string = {}, int32 = {}, repeated = {}, map = {} } = rulesOf(field);
  if (required) return true;
  const hasDefault =
    field.fieldKind === "list" ||
    field.fieldKind === "map" ||
    (field.fieldKind === "scalar" && field.presence === FeatureSet_FieldPresence.IMPLICIT);
  if (!hasDefault || ignore !== undefined) return false;
  const minimums = [string.len, string.minLen, string.minBytes, repeated.minItems, map.minPairs, int32.gte];
  return minimums.some((minimum) => Number(minimum ?? 0) > 0) || (int32.gt ?? -1) >= 0;
}

function asNumber(text: string | undefined): number | undefined {
  return text === undefined ? undefined : Number(text);
}

function withoutUndefined(schema: JsonSchema): JsonSchema {
  return Object.fromEntries(Object.entries(schema).filter(([, value]) => value !== undefined));
}
