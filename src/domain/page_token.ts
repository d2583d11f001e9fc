// Page tokens: where the next page begins, bound to what is listed so that a token of another list is refused.

import { hash } from "node:crypto";
import { invalidField } from "./errors.ts";

/** A token to continue after `position` in the list named by `scope`. */
export function encodePageToken(scope: string, position: string): string {
  return `${position}.${scopeMark(scope)}`;
}

/** The position to continue after; empty for an empty token. Throws INVALID_REQUEST for a token of another list. */
export function decodePageToken(scope: string, token: string): string {
  if (token === "") return "";
  const [position = "", mark, ...rest] = token.split(".");
  if (mark !== scopeMark(scope) || rest.length > 0 || !/^[A-Za-z0-9_-]+$/.test(position)) {
    throw invalidField("page_token", "is not a next_page_token of this list");
  }
  return position;
}

function scopeMark(scope: string): string {
  return hash("sha256", scope, "base64url").slice(0, 12);
}
