// `keys`: makes and changes the file of token keys (SA_TOKEN_KEYS_FILE). It prints numbers and states, never a key.

import {
  describeTokenKeys,
  generateTokenKeysFile,
  retireTokenKey,
  rotateTokenKeysFile,
} from "../auth/token_key_file.ts";

export const KEYS_USAGE = "keys generate FILE | keys rotate FILE | keys list FILE | keys retire FILE KID";

/** Does what the arguments say and returns what to print; undefined when they make no sense. @throws Error */
export function runKeys(args: readonly string[]): string | undefined {
  const [action, file, kid, ...rest] = args;
  if (file === undefined || rest.length > 0 || (kid !== undefined) !== (action === "retire")) return undefined;
  switch (action) {
    case "generate":
      if (!generateTokenKeysFile(file)) throw new Error(`${file} exists; rotate it instead`);
      return `${file}: key 1 is active\n`;
    case "rotate":
      return `${file}: key ${rotateTokenKeysFile(file).kid} is active, the one before it verifies\n`;
    case "list":
      return describeTokenKeys(file)
        .map((key) => `${key.kid} ${key.state}\n`)
        .join("");
    case "retire":
      if (!/^\d{1,5}$/.test(kid!)) return undefined;
      retireTokenKey(file, Number(kid));
      return `${file}: key ${Number(kid)} is retired, and its tokens are invalid\n`;
    default:
      return undefined;
  }
}
