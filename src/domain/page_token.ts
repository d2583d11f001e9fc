// Page tokens: the position after which the next page begins, bound to the list so that a token of another list is refused.

import { hash } from "node:crypto";
import { invalidField } from "./errors.ts";

/**
 * Returns the token of the page after `position` in the list that `scope` names. `position` consists of base64url characters.
 */
export function encodePageToken(scope: string, position: string): string {
  return `${position}.${scopeMark(scope)}`;
}

/**
 * Returns the position after which the page begins, or an empty text for an empty token, which means the first page.
 * `field` is the field of the request that has the token.
 *
 * @throws SessionError INVALID_REQUEST for a malformed token and for one of another list.
 */
export function decodePageToken(scope: string, token: string, field = "page_token"): string {
  if (token === "") return "";
  const [position = "", mark, ...rest] = token.split(".");
  if (mark !== scopeMark(scope) || rest.length > 0 || !/^[A-Za-z0-9_-]+$/.test(position)) {
    throw invalidField(field, "is not a token of this list");
  }
  return position;
}

function scopeMark(scope: string): string {
  return hash("sha256", scope, "base64url").slice(0, 12);
}
