// What goes from bytes to bytes says the same as the messages: requests are read as the decoder and the rules of the
// contract read them, and answers are what protobuf-es writes, byte for byte.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  create,
  fromBinary,
  toBinary,
  type DescMessage,
  type JsonObject,
  type MessageInitShape,
} from "@bufbuild/protobuf";
import fc from "fast-check";
import {
  BatchValidateRequestSchema,
  BatchValidateResponseSchema,
  ValidateResultSchema,
  type ValidateEntry,
} from "../../gen/session/v1/bulk_validation_pb.ts";
import { DeviceType } from "../../gen/session/v1/session_pb.ts";
import {
  ValidateSessionRequestSchema,
  ValidateSessionResponseSchema,
} from "../../gen/session/v1/simple_sessions_pb.ts";
import { ValidateTokenRequestSchema, ValidateTokenResponseSchema } from "../../gen/session/v1/secure_sessions_pb.ts";
import { ownerOf } from "../../src/domain/owner.ts";
import { createRequestValidation } from "../../src/rpc/request_validation.ts";
import {
  decodeValidateEntries,
  decodeValidateSessionRequest,
  decodeValidateTokenRequest,
} from "../../src/service/validation/request_decoding.ts";
import { encodeData, encodeIdentity } from "../../src/service/session_message.ts";
import {
  encodeValidateSessionResponse,
  encodeValidateTokenResponse,
  encodeBatchValidateResponse,
} from "../../src/service/validation/response_encoding.ts";
import { toValidationResponse } from "../../src/service/validation/response_message.ts";
import type { ValidationRequest, ValidationResult } from "../../src/service/validation/validator.ts";
import { SESSION_KIND, SessionRecord } from "../../src/store/session_record.ts";
import { rounds } from "../helpers/rounds.ts";

const RUNS = { numRuns: rounds({ quick: 1_000, all: 2_000, variable: "PROPERTY_RUNS" }) };
const { validate } = createRequestValidation();

const text = (maxLength: number) => fc.string({ unit: "grapheme", maxLength });
// Seconds beyond 2^31, milliseconds of every kind, and the edges of varints.
const timeMs = fc.oneof(
  fc.integer({ min: 0, max: 2 ** 43 }),
  fc.constantFrom(0, 1, 999, 1000, 127_000, 128_000, 2 ** 31 * 1000),
);
// Where a length begins to take two bytes.
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
    version: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.constantFrom(2 ** 31, 2 ** 40, 2 ** 53)),
    times: fc.tuple(timeMs, timeMs, timeMs, timeMs, timeMs),
    ipAddress: text(20),
    userAgent: text(200),
    device,
    data: fc.option(fc.dictionary(text(10), fc.oneof(text(3000), fc.boolean())), { nil: undefined }),
  })
  .map((session) => {
    const owner = Buffer.from(ownerOf(session.tenant, session.userId));
    const identity = encodeIdentity(session, session.device as Parameters<typeof encodeIdentity>[1]);
    const data = encodeData(session.data as JsonObject | undefined);
    const header = Buffer.alloc(64);
    header[0] = 1;
    header[1] = session.secure ? SESSION_KIND.secure : SESSION_KIND.simple;
    header.writeUInt16BE(owner.length, 4);
    header.writeUInt32BE(identity.length, 8);
    header.writeUInt32BE(data.length, 12);
    [session.version, ...session.times].forEach((value, i) => header.writeDoubleBE(value, 16 + 8 * i));
    const secrets = session.secure
      ? [Buffer.alloc(32, 1), Buffer.from([session.retired]), Buffer.alloc(40 * session.retired, 2)]
      : [];
    const bytes = Buffer.concat([header, ...secrets, owner, identity, data]);
    return new SessionRecord(Buffer.from(session.id).toString("base64url"), bytes);
  });

const validation: fc.Arbitrary<ValidationResult> = fc.option(
  fc.record({ record: sessionRecord, ipMismatch: fc.boolean(), expiresInMs: fc.option(timeMs, { nil: undefined }) }),
  { nil: undefined, freq: 5 },
);

test("an answer's bytes are what protobuf-es makes of its message", () => {
  fc.assert(
    fc.property(validation, (answer) => {
      const message = toValidationResponse(answer);
      for (const schema of [ValidateTokenResponseSchema, ValidateResultSchema]) {
        assert.deepEqual(encodeValidateTokenResponse(answer), encoded(schema, message));
      }
      const { verdict, session } = message;
      assert.deepEqual(
        encodeValidateSessionResponse(answer),
        encoded(ValidateSessionResponseSchema, { verdict, session }),
      );
    }),
    RUNS,
  );
});

test("so are those of many answers in one message, however long", () => {
  const answers = fc.array(validation, { maxLength: 200 });
  fc.assert(
    fc.property(answers, (all) => {
      const results = all.map(toValidationResponse);
      assert.deepEqual(encodeBatchValidateResponse(all), encoded(BatchValidateResponseSchema, { results }));
    }),
    { numRuns: RUNS.numRuns / 20 },
  );
});

const handle = fc.oneof(
  { arbitrary: fc.stringMatching(/^([A-Za-z0-9_-]{28}|sat1_[A-Za-z0-9_-]{116})$/), weight: 8 },
  fc.string({ maxLength: 300 }),
  text(20),
);
const ipAddress = fc.oneof(
  { arbitrary: fc.constant(""), weight: 4 },
  fc.ipV4(),
  fc.ipV6(),
  text(10),
  fc.string({ maxLength: 300 }),
);
const entry = fc.record({
  handle: fc.oneof(
    { arbitrary: fc.record({ case: fc.constantFrom("token", "sessionId"), value: handle }), weight: 8 },
    fc.constant({ case: undefined }),
  ),
  touch: fc.boolean(),
  ipAddress,
});

/** The bytes of a request: as clients write them, put together from two, or with something changed. */
function requestBytes<D extends DescMessage>(
  schema: D,
  request: fc.Arbitrary<MessageInitShape<D>>,
): fc.Arbitrary<Buffer> {
  const whole = request.map((message) => encoded(schema, message));
  const changed = fc
    .tuple(whole, fc.nat(), fc.integer({ min: 0, max: 255 }), fc.constantFrom("set", "insert", "remove", "cut"))
    .map(([bytes, where, byte, how]) => {
      const at = where % (bytes.length + 1);
      if (how === "cut") return bytes.subarray(0, at);
      const replaced = how === "insert" ? [] : [at];
      const put = how === "remove" ? [] : [byte];
      return Buffer.concat([bytes.subarray(0, at), Buffer.from(put), bytes.subarray(at + replaced.length)]);
    });
  const twice = fc.tuple(whole, whole).map((both) => Buffer.concat(both));
  return fc.oneof(
    whole,
    changed,
    changed,
    twice,
    fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  );
}

/** Whatever is read without the decoder is a request that keeps the rules, and says just that. */
function readsTheSame<D extends DescMessage, Q>(
  schema: D,
  request: fc.Arbitrary<MessageInitShape<D>>,
  read: (bytes: Buffer) => Q | undefined,
  questionOf: (message: ReturnType<typeof fromBinary<D>>) => Q,
): number {
  let direct = 0;
  fc.assert(
    fc.property(requestBytes(schema, request), (bytes) => {
      const question = read(bytes);
      if (question === undefined) return;
      direct++;
      const message = fromBinary(schema, bytes);
      validate(schema, message);
      assert.deepEqual(question, questionOf(message));
    }),
    RUNS,
  );
  return direct;
}

test("a request that is read from its bytes keeps the rules, and is read as the decoder reads it", () => {
  const counts = {
    token: readsTheSame(
      ValidateTokenRequestSchema,
      fc.record({ token: handle, noTouch: fc.boolean(), ipAddress }),
      decodeValidateTokenRequest,
      ({ token, noTouch, ipAddress: from }): ValidationRequest => ({
        credentialKind: "token",
        credential: token,
        touch: !noTouch,
        ipAddress: from,
      }),
    ),
    session: readsTheSame(
      ValidateSessionRequestSchema,
      fc.record({ sessionId: handle }),
      decodeValidateSessionRequest,
      ({ sessionId }): ValidationRequest => ({
        credentialKind: "id",
        credential: sessionId,
        touch: false,
        ipAddress: "",
      }),
    ),
    entries: readsTheSame(
      BatchValidateRequestSchema,
      fc.record({ entries: fc.array(entry, { maxLength: 4 }) }) as fc.Arbitrary<never>,
      decodeValidateEntries,
      ({ entries }) => entries.map(questionOfEntry),
    ),
  };
  // Otherwise nothing was shown.
  for (const [request, direct] of Object.entries(counts)) {
    assert.ok(direct > RUNS.numRuns / 20, `only ${direct} of the ${request} requests were read from their bytes`);
  }
});

test("what clients write is read from its bytes, up to the most entries there may be", () => {
  const token = `sat1_${"x".repeat(116)}`;
  const plain = { handle: { case: "token" as const, value: token }, ipAddress: "2001:db8::1", touch: true };
  const request = (count: number) => encoded(BatchValidateRequestSchema, { entries: Array(count).fill(plain) });
  assert.equal(decodeValidateEntries(request(1000))?.length, 1000);
  assert.equal(decodeValidateEntries(request(1001)), undefined);
  assert.equal(decodeValidateEntries(request(0)), undefined);
  assert.ok(
    decodeValidateTokenRequest(encoded(ValidateTokenRequestSchema, { token, noTouch: true, ipAddress: "10.0.0.1" })),
  );
  assert.ok(decodeValidateSessionRequest(encoded(ValidateSessionRequestSchema, { sessionId: "x".repeat(28) })));
});

function questionOfEntry({ handle: shown, touch, ipAddress: from }: ValidateEntry): ValidationRequest {
  return {
    credentialKind: shown.case === "token" ? "token" : "id",
    credential: shown.value ?? "",
    touch,
    ipAddress: from,
  };
}

function encoded<D extends DescMessage>(schema: D, message: MessageInitShape<D>): Buffer {
  return Buffer.from(toBinary(schema, create(schema, message)));
}
