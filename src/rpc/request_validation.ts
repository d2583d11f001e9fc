// Checks a decoded request against the rules in the proto, and that its text is well-formed Unicode. Cuts the
// text fields that may be of any length.

import { create, type DescField, type DescMessage, type Message, type MessageShape } from "@bufbuild/protobuf";
import { pathToString } from "@bufbuild/protobuf/reflect";
import { createValidator } from "@bufbuild/protovalidate";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { SessionError, type FieldViolation } from "../domain/errors.ts";
import { cutText } from "../lib/cut_text.ts";

/**
 * The text fields, in any message, that describe a client, with the bytes at which they are cut. They are not refused for their
 * length, because the client chooses it and its user must be able to log in.
 */
const CUT_AT_BYTES: ReadonlyMap<string, number> = new Map([
  ["ip_address", 256],
  ["last_ip_address", 256],
  ["device_last_ip_address", 256],
  ["user_agent", 4096],
]);

export type RequestValidation = {
  /**
   * Cuts the request's ip_address and user_agent, then checks it.
   *
   * @throws SessionError INVALID_REQUEST with one violation for each bad field.
   */
  validate<D extends DescMessage>(desc: D, request: MessageShape<D>): void;
  /** Compiles the rules of every request, about 90 ms, so that the first callers do not wait for it. */
  warm(): void;
};

export function createRequestValidation(): RequestValidation {
  const validator = createValidator();

  function validate<D extends DescMessage>(desc: D, request: MessageShape<D>): void {
    // Text first: protovalidate measures text in UTF-8 bytes, in which ill-formed text cannot be encoded.
    const violations = checkText(desc, request) ?? brokenRules(desc, request);
    if (violations.length === 0) return;
    const fields = violations.map(({ field, description }) => `${field}: ${description}`);
    throw new SessionError("INVALID_REQUEST", fields.join("; "), { violations });
  }

  function brokenRules<D extends DescMessage>(desc: D, request: MessageShape<D>): FieldViolation[] {
    const result = validator.validate(desc, request);
    if (result.kind === "valid") return [];
    if (result.kind === "error") throw result.error;
    const descriptionOfField = new Map<string, string>();
    for (const violation of result.violations) {
      const field = pathToString(violation.field);
      if (!descriptionOfField.has(field)) descriptionOfField.set(field, violation.message);
    }
    return Array.from(descriptionOfField, ([field, description]) => ({ field, description }));
  }

  return {
    validate,
    warm() {
      for (const method of SessionService.methods) validator.validate(method.input, create(method.input));
    },
  };
}

/** A message inside a request that has not been searched yet. */
type PendingMessage = { readonly desc: DescMessage; readonly message: Message; readonly path: string };

/**
 * Cuts the fields of CUT_AT_BYTES. Returns the other fields that hold a lone surrogate, which JSON can carry and UTF-8 cannot;
 * undefined if there is none. It does not recurse, since the client chooses how deep a request is nested.
 */
function checkText(desc: DescMessage, request: Message): FieldViolation[] | undefined {
  const fields = new Set<string>();
  const pending: PendingMessage[] = [{ desc, message: request, path: "" }];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    for (const field of next.desc.fields) {
      const value = valueOf(next.message, field);
      if (value === undefined) continue;
      const cutAtBytes = typeof value === "string" ? CUT_AT_BYTES.get(field.name) : undefined;
      if (cutAtBytes !== undefined) {
        membersOf(next.message)[field.localName] = cutText(value as string, cutAtBytes);
        continue;
      }
      const path = next.path === "" ? field.name : `${next.path}.${field.name}`;
      if (field.message === undefined || field.message.typeName.startsWith("google.protobuf.")) {
        if (!isWellFormedJson(value)) fields.add(path);
      } else if (field.fieldKind === "message") {
        pending.push({ desc: field.message, message: value as Message, path });
      } else {
        if (field.fieldKind === "map" && !isWellFormedJson(Object.keys(value))) fields.add(path);
        for (const [key, message] of Object.entries(value)) {
          pending.push({ desc: field.message, message: message as Message, path: `${path}[${key}]` });
        }
      }
    }
  }
  if (fields.size === 0) return undefined;
  return Array.from(fields, (field) => ({ field, description: "must be well-formed Unicode" }));
}

function membersOf(message: Message): Record<string, unknown> {
  return message as unknown as Record<string, unknown>;
}

/** Returns the value of a field if it can hold text: a string or an object other than bytes. */
function valueOf(message: Message, field: DescField): object | string | undefined {
  const members = membersOf(message);
  const oneof = field.oneof && (members[field.oneof.localName] as { case?: string; value?: unknown });
  if (oneof !== undefined && oneof.case !== field.localName) return undefined;
  const value = oneof === undefined ? members[field.localName] : oneof.value;
  if (typeof value === "string") return value;
  return typeof value === "object" && value !== null && !ArrayBuffer.isView(value) ? value : undefined;
}

/** Returns true if all text in a value is well-formed, at any depth and including member names. */
function isWellFormedJson(value: object | string): boolean {
  const values: unknown[] = [value];
  while (values.length > 0) {
    const next = values.pop();
    if (typeof next === "string") {
      if (!next.isWellFormed()) return false;
    } else if (Array.isArray(next)) {
      for (const item of next) values.push(item);
    } else if (typeof next === "object" && next !== null && !ArrayBuffer.isView(next)) {
      for (const [name, member] of Object.entries(next)) {
        if (!name.isWellFormed()) return false;
        values.push(member);
      }
    }
  }
  return true;
}
