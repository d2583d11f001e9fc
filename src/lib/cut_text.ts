// Cuts text at a number of bytes.

const encoder = new TextEncoder();

/**
 * Returns well-formed text of at most `maxBytes` bytes of UTF-8: each lone surrogate is replaced by U+FFFD, and what is too long
 * is cut before the first character that does not fit.
 */
export function cutText(text: string, maxBytes: number): string {
  const wellFormed = text.toWellFormed();
  // A UTF-16 code unit takes at most 3 bytes of UTF-8.
  if (wellFormed.length <= maxBytes / 3) return wellFormed;
  const { read } = encoder.encodeInto(wellFormed, new Uint8Array(maxBytes));
  return wellFormed.slice(0, read);
}
