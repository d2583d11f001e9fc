// base64url as every request needs it of a token or an id, without a pattern and without leaving JavaScript.

const CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const VALUES = Int8Array.from({ length: 128 }, (_, code) => CHARACTERS.indexOf(String.fromCharCode(code)));

/** What a character stands for, 0 to 63; -1 for one that is none, and where there is none. */
export function base64urlValue(text: string, at: number): number {
  return VALUES[text.charCodeAt(at)] ?? -1;
}

/** Whether all characters are some. */
export function isBase64url(text: string): boolean {
  for (let at = 0; at < text.length; at++) if (base64urlValue(text, at) < 0) return false;
  return true;
}

/**
 * Decodes `text` from `start` on until `target` is full, whose length is a multiple of 3; false when one of the characters
 * is none of base64url.
 */
export function decodeBase64url(text: string, start: number, target: Buffer): boolean {
  for (let from = start, to = 0; to < target.length; from += 4, to += 3) {
    const bits =
      (base64urlValue(text, from) << 18) |
      (base64urlValue(text, from + 1) << 12) |
      (base64urlValue(text, from + 2) << 6) |
      base64urlValue(text, from + 3);
    if (bits < 0) return false;
    target[to] = bits >> 16;
    target[to + 1] = bits >> 8;
    target[to + 2] = bits;
  }
  return true;
}
