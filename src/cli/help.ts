// The text of `--help`: the commands, and every variable with its format, unit and default.

import { variableTexts } from "../config/variables.ts";

const USAGE = `session-authority: a gRPC service that owns login sessions.

Usage: session-authority [command]      (npm start -- [command])

Commands
  serve         run the service (the default)
  healthcheck   check whether the running service is ready; exit code 0 or 1
  doctor        check the configuration and the store, one line per check; --json prints one JSON document.
                Exit code 0 if the service would start, 1 if not, 2 if the configuration is wrong
  keys          create or change the file of token keys:
                keys generate FILE, keys rotate FILE, keys list FILE, keys retire FILE KID
  help          this text, also --help
  --version     the version

Exit codes: 0 success, 1 failure, 2 wrong configuration or command, 130 stopped by a second signal.

All settings are environment variables:
`;

export function helpText(): string {
  const variables = variableTexts().map(
    ({ name, shape, default: fallback, doc }) =>
      `  ${name}\n      ${plain(doc)}\n      ${plain(shape)}. Default: ${plain(fallback)}\n`,
  );
  return `${USAGE}\n${variables.join("")}`;
}

/** Removes the Markdown of the docs. */
function plain(text: string): string {
  return text.replaceAll("`", "");
}
