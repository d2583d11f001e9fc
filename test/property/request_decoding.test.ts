// The fast decoding of validation requests equals the general path, which is protobuf-es and protovalidate, for every request:
// valid, against a rule, truncated, changed at random, with unknown fields. It leaves to the general path what that path cuts, and
// requests with max_auth_age or min_level.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  create,
  equals,
  fromBinary,
  toBinary,
  type DescMessage,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import fc from "fast-check";
import { BatchValidateRequestSchema, ValidateStreamRequestSchema } from "../../gen/session/v1/bulk_validation_pb.ts";
import { ValidateSessionRequestSchema } from "../../gen/session/v1/simple_sessions_pb.ts";
import { ValidateTokenRequestSchema } from "../../gen/session/v1/secure_sessions_pb.ts";
import { createRequestValidation } from "../../src/rpc/request_validation.ts";
import {
  decodeValidateEntries,
  decodeValidateSessionRequest,
  decodeValidateTokenRequest,
  fromValidateEntry,
  fromValidateSessionRequest,
  fromValidateTokenRequest,
} from "../../src/service/validation/request_decoding.ts";
import type { ValidationRequest } from "../../src/service/validation/validator.ts";
import { rounds } from "../helpers/rounds.ts";

const RUNS = { numRuns: rounds({ quick: 1_000, all: 2_000, variable: "PROPERTY_RUNS" }) };
const { validate } = createRequestValidation();

// Lengths around the limit of 256 bytes, with characters of one to four bytes.
const EDGE_TEXTS = ["x", "é", "€", "\u{1F600}"].flatMap((character) => {
  const fitting = Math.floor(256 / Buffer.byteLength(character));
  return [fitting, fitting + 1].map((count) => character.repeat(count));
});
const credential = fc.oneof(
  { arbitrary: fc.stringMatching(/^([A-Za-z0-9_-]{28}|sat1_[A-Za-z0-9_-]{116})$/), weight: 8 },
  fc.string({ maxLength: 300 }),
  fc.string({ unit: "grapheme", maxLength: 100 }),
  fc.constantFrom(...EDGE_TEXTS),
);
const ipAddress = fc.oneof(
  { arbitrary: fc.constant(""), weight: 4 },
  fc.ipV4(),
  fc.ipV6(),
  fc.string({ maxLength: 300 }),
  fc.constantFrom(...EDGE_TEXTS),
);
const optionalBoolean = fc.option(fc.boolean(), { nil: undefined });
/** What all methods take. Few requests have one of the last three. */
const common = {
  ipAddress,
  includeFields: fc.boolean(),
  maxAuthAge: fc.option(
    fc.record({ seconds: fc.bigInt({ min: -1n, max: 10n }), nanos: fc.constantFrom(0, 500_000_000) }),
    {
      nil: undefined,
      freq: 10,
    },
  ),
  minLevel: fc.oneof({ weight: 10, arbitrary: fc.constant(0) }, fc.integer({ min: -1, max: 101 })),
};
const entry = fc.record({
  handle: fc.oneof(
    { arbitrary: fc.record({ case: fc.constantFrom("token", "sessionId"), value: credential }), weight: 8 },
    fc.constant({ case: undefined }),
  ),
  touch: optionalBoolean,
  ...common,
});

/** A field that no request has. */
const unknownField = fc
  .tuple(fc.integer({ min: 16, max: 2 ** 29 - 1 }), fc.string({ maxLength: 20 }))
  .map(([number, text]) => new BinaryWriter().tag(number, WireType.LengthDelimited).string(text).finish());

/** The bytes of a request: as clients write them, concatenated from two, with an unknown field, changed at random, or random. */
function requestBytes<D extends DescMessage>(
  schema: D,
  request: fc.Arbitrary<MessageInitShape<D>>,
): fc.Arbitrary<Buffer> {
  const whole = request.map((message) => encoded(schema, message));
  const changed = fc
    .tuple(whole, fc.nat(), fc.integer({ min: 0, max: 255 }), fc.constantFrom("set", "insert", "remove", "truncate"))
    .map(([bytes, where, byte, how]) => {
      const at = where % (bytes.length + 1);
      if (how === "truncate") return bytes.subarray(0, at);
      const replaced = how === "insert" ? [] : [at];
      const put = how === "remove" ? [] : [byte];
      return Buffer.concat([bytes.subarray(0, at), Buffer.from(put), bytes.subarray(at + replaced.length)]);
    });
  return fc.oneof(
    whole,
    changed,
    changed,
    fc.tuple(whole, whole).map((both) => Buffer.concat(both)),
    fc.tuple(whole, unknownField).map((both) => Buffer.concat(both)),
    fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  );
}

/** Asserts that both paths decode a request to the same value, or both refuse it; and that enough of both kinds came. */
function assertSameOutcome<D extends DescMessage, T extends ValidationRequest | ValidationRequest[]>(
  schema: D,
  request: fc.Arbitrary<MessageInitShape<D>>,
  fast: (bytes: Buffer) => T | undefined,
  fromMessage: (message: MessageShape<D>) => T,
): void {
  let decoded = 0;
  let refused = 0;
  fc.assert(
    fc.property(requestBytes(schema, request), (bytes) => {
      let expected: T | undefined;
      try {
        const message = fromBinary(schema, bytes);
        validate(schema, message);
        if (equals(schema, message, fromBinary(schema, bytes))) expected = fromMessage(message);
        const checksProof = (request: ValidationRequest) => request.maxAuthAgeMs !== Infinity || request.minLevel !== 0;
        if ([expected ?? []].flat().some(checksProof)) expected = undefined;
        decoded++;
      } catch {
        refused++;
      }
      assert.deepEqual(fast(bytes), expected);
    }),
    RUNS,
  );
  for (const count of [decoded, refused]) {
    assert.ok(count > RUNS.numRuns / 20, `${decoded} requests were decoded and ${refused} refused: too few of a kind`);
  }
}

test("ValidateTokenRequest", () => {
  assertSameOutcome(
    ValidateTokenRequestSchema,
    fc.record({ token: credential, touch: optionalBoolean, ...common }),
    decodeValidateTokenRequest,
    fromValidateTokenRequest,
  );
});

test("ValidateSessionRequest", () => {
  assertSameOutcome(
    ValidateSessionRequestSchema,
    fc.record({ sessionId: credential, touch: optionalBoolean, ...common }),
    decodeValidateSessionRequest,
    fromValidateSessionRequest,
  );
});

for (const schema of [BatchValidateRequestSchema, ValidateStreamRequestSchema]) {
  test(schema.name, () => {
    assertSameOutcome<typeof schema, ValidationRequest[]>(
      schema,
      fc.record({ entries: fc.array(entry, { maxLength: 4 }) }) as fc.Arbitrary<never>,
      decodeValidateEntries,
      ({ entries }) => entries.map(fromValidateEntry),
    );
  });
}

test("1 to 1,000 entries are decoded, and neither none nor 1,001", () => {
  const token = `sat1_${"x".repeat(116)}`;
  const valid = { handle: { case: "token" as const, value: token }, ipAddress: "2001:db8::1", touch: true };
  const request = (count: number) => encoded(BatchValidateRequestSchema, { entries: Array(count).fill(valid) });
  assert.equal(decodeValidateEntries(request(1000))?.length, 1000);
  assert.equal(decodeValidateEntries(request(1001)), undefined);
  assert.equal(decodeValidateEntries(request(0)), undefined);
});

function encoded<D extends DescMessage>(schema: D, message: MessageInitShape<D>): Buffer {
  return Buffer.from(toBinary(schema, create(schema, message)));
}
