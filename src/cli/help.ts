// What `--help` says: the commands, and every variable with its shape, unit and default.

import { variableTexts } from "../config/variables.ts";

const USAGE = `session-authority: a gRPC service that owns login sessions.

Usage: session-authority [command]      (npm start -- [command])

Commands
  serve         run the service (the default)
  healthcheck   ask the running service whether it is ready; exit code 0 or 1
  doctor        check the configuration and the store, one line each; exit code 0 or 1
  keys          make or change the file of token keys:
                keys generate FILE, keys rotate FILE, keys list FILE, keys retire FILE KID
  help          this text, also --help
  --version     the version

Exit codes: 0 done, 1 failed, 2 wrong configuration or command, 130 stopped by a second signal.

Everything else is said by environment variables.
`;

export function helpText(): string {
  const variables = variableTexts().map(
    ({ name, shape, default: fallback, doc }) =>
      `  ${name}\n      ${plain(doc)}\n      ${plain(shape)}. Default: ${plain(fallback)}\n`,
  );
  return `${USAGE}\n${variables.join("")}`;
}

/** Without the marks that the docs need. */
function plain(text: string): string {
  return text.replaceAll("`", "");
}
