// A file that holds one password.

import { readFileSync } from "node:fs";

/** Reads a password: the text of the file without the line breaks at its end. @throws Error of node:fs. */
export function readPasswordFile(path: string): string {
  return readFileSync(path, "utf8").replace(/[\r\n]+$/, "");
}
