// Questions read from the bytes of a request without decoding it: only where the request is as clients write it, and keeps
// every rule of the contract. Everything else is left to the decoder and the rules, which know how to refuse it.

import type { ValidationRequest } from "./validator.ts";

/** Texts of the requests are shorter, so that their length is one byte and within every limit. */
const TEXT_MAX_BYTES = 127;
const ENTRIES_MAX = 1000;

// ValidateTokenRequest
const TOKEN = 0x0a;
const NO_TOUCH = 0x10;
const TOKEN_IP_ADDRESS = 0x1a;
// ValidateSessionRequest
const SESSION_ID = 0x0a;
// BatchValidateRequest, ValidateStreamRequest
const ENTRIES = 0x0a;
// ValidateEntry
const ENTRY_SESSION_ID = 0x0a;
const ENTRY_TOKEN = 0x12;
const ENTRY_TOUCH = 0x18;
const ENTRY_IP_ADDRESS = 0x22;

/** Of a ValidateTokenRequest; undefined: decode it. */
export function decodeValidateTokenRequest(request: Buffer): ValidationRequest | undefined {
  const reader = { request, at: 0, end: request.length };
  const handle = readText(reader, TOKEN);
  const noTouch = readTrue(reader, NO_TOUCH);
  const ipAddress = readText(reader, TOKEN_IP_ADDRESS) ?? "";
  if (handle === undefined || reader.at !== reader.end) return undefined;
  return { credentialKind: "token", credential: handle, touch: !noTouch, ipAddress };
}

/** Of a ValidateSessionRequest; undefined: decode it. */
export function decodeValidateSessionRequest(request: Buffer): ValidationRequest | undefined {
  const reader = { request, at: 0, end: request.length };
  const handle = readText(reader, SESSION_ID);
  if (handle === undefined || reader.at !== reader.end) return undefined;
  return { credentialKind: "id", credential: handle, touch: false, ipAddress: "" };
}

/** Of a BatchValidateRequest or a ValidateStreamRequest; undefined: decode it. */
export function decodeValidateEntries(request: Buffer): ValidationRequest[] | undefined {
  const questions: ValidationRequest[] = [];
  let at = 0;
  while (at < request.length) {
    if (request[at] !== ENTRIES || questions.length === ENTRIES_MAX) return undefined;
    let length = request[at + 1]!;
    at += 2;
    // A token and an address take more than 127 bytes together.
    if (length > 127) length = (length & 127) | (request[at++]! << 7);
    const end = at + length;
    // A second byte above 127 makes the length longer than any message.
    if (!(end <= request.length)) return undefined;
    const question = entryQuestion({ request, at, end });
    if (question === undefined) return undefined;
    questions.push(question);
    at = end;
  }
  return questions.length === 0 ? undefined : questions;
}

function entryQuestion(reader: Reader): ValidationRequest | undefined {
  const proof = reader.request[reader.at] === ENTRY_TOKEN ? "token" : "id";
  const handle = readText(reader, proof === "token" ? ENTRY_TOKEN : ENTRY_SESSION_ID);
  const touch = readTrue(reader, ENTRY_TOUCH);
  const ipAddress = readText(reader, ENTRY_IP_ADDRESS) ?? "";
  if (handle === undefined || reader.at !== reader.end) return undefined;
  return { credentialKind: proof, credential: handle, touch, ipAddress };
}

/** A message within a request, and how far it has been read. */
type Reader = { readonly request: Buffer; at: number; readonly end: number };

/** A field that is next and holds printable ASCII, not empty; else undefined, and nothing is read. */
function readText(reader: Reader, tag: number): string | undefined {
  const { request, at, end } = reader;
  if (at >= end || request[at] !== tag) return undefined;
  const length = request[at + 1]!;
  const start = at + 2;
  if (!(length > 0 && length <= TEXT_MAX_BYTES && start + length <= end)) return undefined;
  for (let i = start; i < start + length; i++) if (request[i]! < 0x20 || request[i]! > 0x7e) return undefined;
  reader.at = start + length;
  return request.toString("latin1", start, reader.at);
}

/** Whether a field is next that says true; one that says anything else is left unread. */
function readTrue(reader: Reader, tag: number): boolean {
  const { request, at, end } = reader;
  if (at + 2 > end || request[at] !== tag || request[at + 1] !== 1) return false;
  reader.at = at + 2;
  return true;
}
