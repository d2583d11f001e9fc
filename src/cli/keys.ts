// `keys`: creates and changes the file of token keys (SA_TOKEN_KEYS_FILE). It prints key ids and states, never a key.

import {
  describeTokenKeys,
  generateTokenKeysFile,
  retireTokenKey,
  rotateTokenKeysFile,
} from "../auth/token_key_file.ts";

export const KEYS_USAGE = "keys generate FILE | keys rotate FILE | keys list FILE | keys retire FILE KID";

/** Runs the action and returns the text to print, or undefined if the arguments are wrong. @throws Error if it fails. */
export function runKeys(args: readonly string[]): string | undefined {
  const [action, file, kid, ...rest] = args;
  if (file === undefined || rest.length > 0 || (kid !== undefined) !== (action === "retire")) return undefined;
  switch (action) {
    case "generate":
      if (!generateTokenKeysFile(file)) throw new Error(`${file} exists; rotate it instead`);
      return `${file}: key 1 is active\n`;
    case "rotate":
      return `${file}: key ${rotateTokenKeysFile(file).kid} is active, the previous one still verifies\n`;
    case "list":
      return describeTokenKeys(file)
        .map((key) => `${key.kid} ${key.state}\n`)
        .join("");
    case "retire":
      if (!/^\d{1,5}$/.test(kid!)) return undefined;
      retireTokenKey(file, Number(kid));
      return `${file}: key ${Number(kid)} is retired, its tokens are invalid\n`;
    default:
      return undefined;
  }
}
