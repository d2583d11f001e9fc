// The same answer as bytes, put together from those of the record: what validation_message.ts and protobuf-es would make of
// it, byte for byte, at a fraction of the cost.
//
// As protobuf-es writes them: fields in the order of their numbers, and none that has its default.

import type { SessionRecord } from "../../store/session_record.ts";
import type { ValidationResult } from "./validator.ts";

/** A field's tag: its number, and whether a number follows or a length and so many bytes. */
const numberField = (field: number) => field << 3;
const bytesField = (field: number) => (field << 3) | 2;

// ValidateTokenResponse and ValidateResult; the first two are ValidateSessionResponse, too.
const VERDICT = numberField(1);
const SESSION = bytesField(2);
const IP_MISMATCH = numberField(3);
const EXPIRES_IN = bytesField(4);
const VALID = 1;
const INVALID = 2;
// BatchValidateResponse and ValidateStreamResponse
const RESULTS = bytesField(1);
// Session; what follows user_id is stored as the contract has it.
const SESSION_ID = bytesField(1);
const VERSION = numberField(2);
const CREATED_AT = bytesField(3);
const LAST_ACCESSED_AT = bytesField(4);
const EXPIRES_AT = bytesField(5);
const ABSOLUTE_EXPIRES_AT = bytesField(6);
const USER_ID = bytesField(7);
// Timestamp and Duration
const SECONDS = numberField(1);
const NANOS = numberField(2);
const NANOS_PER_MS = 1_000_000;

/** More than a session's fields up to its user_id take: ids are at most 256 bytes. */
const HEAD_MAX_BYTES = 1024;
/** More than all else takes that stands around a session in an answer. */
const AROUND_MAX_BYTES = 64;

/** What large answers needed is not kept for the small ones. */
const KEPT_MAX_BYTES = 256 * 1024;

// Where an answer is put together, one at a time: nothing here waits.
const head = Buffer.alloc(HEAD_MAX_BYTES);
let result = Buffer.alloc(4096);
let results = Buffer.alloc(4096);

/** ValidateTokenResponse or ValidateResult. */
export function encodeValidateTokenResponse(validation: ValidationResult): Buffer {
  return copied(result, writeResult(validation));
}

/** ValidateSessionResponse, which tells nothing but the session. */
export function encodeValidateSessionResponse(validation: ValidationResult): Buffer {
  return encodeValidateTokenResponse(
    validation && { record: validation.record, ipMismatch: false, expiresInMs: undefined },
  );
}

/** BatchValidateResponse or ValidateStreamResponse. */
export function encodeBatchValidateResponse(validations: readonly ValidationResult[]): Buffer {
  let at = 0;
  for (const validation of validations) {
    const length = writeResult(validation);
    results = withRoom(results, at + length + AROUND_MAX_BYTES);
    results[at++] = RESULTS;
    at = writeVarint(results, at, length);
    at += result.copy(results, at, 0, length);
  }
  if (results.length <= KEPT_MAX_BYTES) return copied(results, at);
  const answer = results.subarray(0, at);
  results = Buffer.alloc(KEPT_MAX_BYTES);
  return answer;
}

/** Writes `result`; how many bytes that are. */
function writeResult(validation: ValidationResult): number {
  result[0] = VERDICT;
  result[1] = validation === undefined ? INVALID : VALID;
  if (validation === undefined) return 2;
  const { record, ipMismatch, expiresInMs } = validation;
  const headLength = writeHead(record);
  const sessionLength = headLength + record.contractLength;
  result = withRoom(result, sessionLength + AROUND_MAX_BYTES);
  result[2] = SESSION;
  let at = writeVarint(result, 3, sessionLength);
  head.copy(result, at, 0, headLength);
  record.writeContractBytes(result, at + headLength);
  at += sessionLength;
  if (ipMismatch) {
    result[at++] = IP_MISMATCH;
    result[at++] = 1;
  }
  return expiresInMs === undefined ? at : writeTime(result, at, EXPIRES_IN, expiresInMs);
}

/** The same buffer, or a larger one with the same content. */
function withRoom(buffer: Buffer<ArrayBuffer>, bytes: number): Buffer<ArrayBuffer> {
  return buffer.length >= bytes ? buffer : Buffer.concat([buffer], 2 * bytes);
}

function copied(buffer: Buffer, length: number): Buffer {
  const copy = Buffer.allocUnsafe(length);
  buffer.copy(copy, 0, 0, length);
  return copy;
}

/** The fields of a session up to its user_id; how many bytes that are. */
function writeHead(record: SessionRecord): number {
  let at = 0;
  head[at++] = SESSION_ID;
  head[at++] = record.sessionId.length;
  at += head.write(record.sessionId, at, "latin1");
  head[at++] = VERSION;
  at = writeVarint(head, at, record.versionNumber);
  at = writeTime(head, at, CREATED_AT, record.createdMs);
  at = writeTime(head, at, LAST_ACCESSED_AT, record.lastAccessedMs);
  at = writeTime(head, at, EXPIRES_AT, record.expiresMs);
  at = writeTime(head, at, ABSOLUTE_EXPIRES_AT, record.absoluteExpiresMs);
  head[at] = USER_ID;
  // Its length takes one byte up to 127 and two from there on.
  const length = record.writeUserId(head, at + 2);
  if (length > 127) head.copyWithin(at + 3, at + 2, at + 2 + length);
  return writeVarint(head, at + 1, length) + length;
}

/** A Timestamp or a Duration of whole milliseconds, not negative; where it ends. */
function writeTime(buffer: Buffer, start: number, tag: number, milliseconds: number): number {
  const seconds = Math.floor(milliseconds / 1000);
  const nanos = (milliseconds - seconds * 1000) * NANOS_PER_MS;
  let at = start + 2;
  if (seconds > 0) {
    buffer[at++] = SECONDS;
    at = writeVarint(buffer, at, seconds);
  }
  if (nanos > 0) {
    buffer[at++] = NANOS;
    at = writeVarint(buffer, at, nanos);
  }
  buffer[start] = tag;
  buffer[start + 1] = at - start - 2;
  return at;
}

/** A whole number from 0 to 2^53; where it ends. */
function writeVarint(buffer: Buffer, start: number, value: number): number {
  let at = start;
  let left = value;
  // Bits only go as far as 2^31.
  for (; left >= 2 ** 31; left = Math.floor(left / 128)) buffer[at++] = (left % 128) | 128;
  for (; left > 127; left >>>= 7) buffer[at++] = (left & 127) | 128;
  buffer[at++] = left;
  return at;
}
