// The content types of requests. connect compares them with fixed spellings, so others are rewritten to those before.

import { MIMEType } from "node:util";

/**
 * Returns the media type without its parameters, in lower case. Returns undefined if it is malformed, or names a charset other
 * than UTF-8.
 */
export function mediaTypeOf(contentType: string | undefined): string | undefined {
  try {
    const { essence, params } = new MIMEType(contentType ?? "");
    const charset = params.get("charset")?.toLowerCase() ?? "utf-8";
    return charset === "utf-8" || charset === "utf8" ? essence : undefined;
  } catch {
    return undefined;
  }
}
