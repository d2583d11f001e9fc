// Whether text is base64url, told without a pattern: every request asks it of a token or an id.

const CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const VALUES = Int8Array.from({ length: 128 }, (_, code) => CHARACTERS.indexOf(String.fromCharCode(code)));

/** What a character stands for, 0 to 63; a negative number or undefined for one that is none. */
export function base64urlValue(text: string, at: number): number | undefined {
  return VALUES[text.charCodeAt(at)];
}

/** Whether all characters from `start` on are some. */
export function isBase64url(text: string, start: number): boolean {
  for (let at = start; at < text.length; at++) if (!(VALUES[text.charCodeAt(at)]! >= 0)) return false;
  return true;
}
