// Page tokens: where the next page begins, bound to what is listed so that a token of another list is refused.

import { hash } from "node:crypto";
import { invalidField } from "./errors.ts";
import { partitionOfSessionId } from "./session_id.ts";

/** A token to continue after `sessionId` in the list named by `scope`. */
export function encodePageToken(scope: string, sessionId: string): string {
  return `${sessionId}${scopeMark(scope)}`;
}

/** The session_id to continue after; empty for an empty token. Throws INVALID_REQUEST for a token of another list. */
export function decodePageToken(scope: string, token: string): string {
  if (token === "") return "";
  const sessionId = token.slice(0, -MARK_LENGTH);
  if (partitionOfSessionId(sessionId) === undefined || token.slice(-MARK_LENGTH) !== scopeMark(scope)) {
    throw invalidField("page_token", "is not a next_page_token of this list");
  }
  return sessionId;
}

const MARK_LENGTH = 8;

function scopeMark(scope: string): string {
  return hash("sha256", scope, "base64url").slice(0, MARK_LENGTH);
}
