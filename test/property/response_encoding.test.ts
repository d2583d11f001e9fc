// The response writer of the validation methods equals protobuf-es, byte for byte, for every result.

import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary, type DescMessage, type JsonObject, type MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { BatchValidateResponseSchema, ValidateResultSchema } from "../../gen/session/v1/bulk_validation_pb.ts";
import { AuthenticationSchema, DeviceType, type Device } from "../../gen/session/v1/session_pb.ts";
import { ValidateSessionResponseSchema } from "../../gen/session/v1/simple_sessions_pb.ts";
import { ValidateTokenResponseSchema } from "../../gen/session/v1/secure_sessions_pb.ts";
import { ownerOf } from "../../src/domain/owner.ts";
import { encodeAuthentication, encodeData, encodeIdentity, encodeLabels } from "../../src/service/session_message.ts";
import {
  encodeBatchValidateResponse,
  encodeValidationResponse,
  toValidationResponse,
} from "../../src/service/validation/response_encoding.ts";
import type { ValidationResult } from "../../src/service/validation/validator.ts";
import {
  IP_BINDING,
  RECORD_KIND,
  recordFlags,
  SessionRecord,
  type IpBindingFlag,
} from "../../src/store/session_record.ts";
import { rounds } from "../helpers/rounds.ts";

const RUNS = { numRuns: rounds({ quick: 1_000, all: 2_000, variable: "PROPERTY_RUNS" }) };

const text = (maxLength: number) => fc.string({ unit: "grapheme", maxLength });
// Seconds beyond 2^31, all fractions of a second, and the edges of varints.
const timeMs = fc.oneof(
  fc.integer({ min: 0, max: 2 ** 43 }),
  fc.constantFrom(0, 1, 999, 1000, 127_000, 128_000, 2 ** 31 * 1000),
);
// Lengths around the one where a length prefix grows to two bytes.
const EDGE_IDS = [126, 127, 128, 256].map((length) => "0123456789".repeat(26).slice(0, length));
const device = fc.option(
  fc.record({ deviceId: text(20), name: text(20), type: fc.constantFrom(DeviceType.MOBILE, DeviceType.UNKNOWN) }),
  { nil: undefined },
);

const sessionRecord = fc
  .record({
    id: fc.uint8Array({ minLength: 21, maxLength: 21 }),
    tenant: fc.constantFrom("default", "t/ü"),
    userId: fc
      .oneof(text(30), fc.string({ minLength: 1, maxLength: 256 }), fc.constantFrom(...EDGE_IDS))
      .filter((id) => id !== "" && id.isWellFormed()),
    secure: fc.boolean(),
    retired: fc.integer({ min: 0, max: 3 }),
    ipBinding: fc.constantFrom(...Object.values(IP_BINDING)),
    version: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.constantFrom(2 ** 31, 2 ** 40, 2 ** 53)),
    times: fc.tuple(timeMs, timeMs, timeMs, timeMs, timeMs),
    ipAddress: text(20),
    userAgent: text(200),
    device,
    data: fc.option(fc.dictionary(text(10), fc.oneof(text(3000), fc.boolean())), { nil: undefined }),
    labels: fc.dictionary(text(8), text(20), { maxKeys: 3, noNullPrototype: true }),
    authentication: fc.option(
      fc.record({
        methods: fc.array(text(8), { maxLength: 10 }),
        level: fc.integer({ min: 0, max: 100 }),
        contextClass: fc.oneof(text(10), text(85)),
      }),
      { nil: undefined },
    ),
  })
  .map(recordOf);

type SessionParts = {
  readonly id: Uint8Array;
  readonly tenant: string;
  readonly userId: string;
  readonly secure: boolean;
  /** The number of secrets before the current one that the record holds. */
  readonly retired: number;
  readonly ipBinding: IpBindingFlag;
  readonly version: number;
  readonly times: readonly number[];
  readonly ipAddress: string;
  readonly userAgent: string;
  readonly device: Partial<Device> | undefined;
  readonly data: Record<string, unknown> | undefined;
  readonly labels: Record<string, string>;
  readonly authentication: MessageInitShape<typeof AuthenticationSchema> | undefined;
};

const TYPICAL: SessionParts = {
  ...{
    id: Buffer.alloc(21, 3),
    tenant: "default",
    userId: "u",
    secure: true,
    retired: 0,
    ipBinding: IP_BINDING.off,
    version: 1,
  },
  ...{ times: [0, 1, 2, 3, 4], ipAddress: "", userAgent: "", device: undefined, data: undefined },
  ...{ labels: {}, authentication: undefined },
};

function recordOf(parts: Partial<SessionParts>): SessionRecord {
  const session = { ...TYPICAL, ...parts };
  const owner = Buffer.from(ownerOf(session.tenant, session.userId));
  const identity = encodeIdentity(session, session.device as Device | undefined);
  const data = encodeData(session.data as JsonObject | undefined);
  const labels = encodeLabels(session.labels);
  const authentication = encodeAuthentication(
    session.authentication && create(AuthenticationSchema, session.authentication),
  );
  const header = Buffer.alloc(64);
  header[0] = 2;
  header[1] = session.secure ? RECORD_KIND.token : RECORD_KIND.id;
  header.writeUInt16BE(recordFlags(session.ipBinding, 0, false), 2);
  header.writeUInt16BE(owner.length, 4);
  header.writeUInt16BE(identity.length, 8);
  header.writeUInt16BE(labels.length, 10);
  header.writeUInt32BE(data.length, 12);
  // Version, created, accessed, absolute, idle and authenticated, which is 0 if nothing is known.
  const authenticatedMs = session.authentication ? session.times[4]! : 0;
  [session.version, ...session.times.slice(0, 4), authenticatedMs].forEach((value, i) =>
    header.writeDoubleBE(value, 16 + 8 * i),
  );
  const secrets = session.secure
    ? [Buffer.alloc(32, 1), Buffer.from([session.retired]), Buffer.alloc(40 * session.retired, 2)]
    : [];
  const bytes = Buffer.concat([header, ...secrets, owner, identity, data, labels, authentication]);
  return new SessionRecord(Buffer.from(session.id).toString("base64url"), bytes);
}

const validation: fc.Arbitrary<ValidationResult> = fc.option(
  fc.record({
    record: sessionRecord,
    fields: fc.option(
      fc
        .dictionary(text(8), text(20), { maxKeys: 3, noNullPrototype: true })
        .map((fields) => new Map(Object.entries(fields))),
      { nil: undefined, freq: 5 },
    ),
    ipMismatch: fc.boolean(),
    expiresInMs: fc.option(timeMs, { nil: undefined }),
    stepUpRequired: fc.boolean(),
  }),
  { nil: undefined, freq: 5 },
);

// First, while the writer's buffers have their initial size.
test("a response larger than all before it is encoded as protobuf-es encodes it", () => {
  for (const bytes of [5_000, 20_000, 60_000]) {
    const record = recordOf({ data: { text: "x".repeat(bytes) } });
    const result = { record, fields: undefined, ipMismatch: true, expiresInMs: 1, stepUpRequired: false };
    const message = toValidationResponse(result);
    assert.deepEqual(encodeValidationResponse(result), encoded(ValidateTokenResponseSchema, message));
  }
});

test("a response is encoded as protobuf-es encodes its message", () => {
  fc.assert(
    fc.property(validation, (result) => {
      const message = toValidationResponse(result);
      for (const schema of [ValidateSessionResponseSchema, ValidateTokenResponseSchema, ValidateResultSchema]) {
        assert.deepEqual(encodeValidationResponse(result), encoded(schema, message));
      }
    }),
    RUNS,
  );
});

test("a response with many results is encoded as protobuf-es encodes it, however long it is", () => {
  fc.assert(
    fc.property(fc.array(validation, { maxLength: 200 }), (validations) => {
      const results = validations.map(toValidationResponse);
      assert.deepEqual(encodeBatchValidateResponse(validations), encoded(BatchValidateResponseSchema, { results }));
    }),
    { numRuns: RUNS.numRuns / 20 },
  );
});

function encoded<D extends DescMessage>(schema: D, message: MessageInitShape<D>): Buffer {
  return Buffer.from(toBinary(schema, create(schema, message)));
}
