// The files of SA_STORE_TLS_* and SA_STORE_PASSWORD_FILE. Each connection reads them anew.

import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { readPasswordFile } from "../../lib/password_file.ts";
import type { NodeAddress, StoreAccess } from "./store_url.ts";

/** Returns the TLS options of node:tls for a connection to the address, or undefined without TLS. @throws Error of node:fs. */
export function readTlsOptions(address: NodeAddress, { tls, files }: StoreAccess) {
  if (!tls || address.host === undefined) return undefined;
  return {
    tls: true as const,
    // Node sends no server name of its own accord, and stores behind a shared address need it. An IP address is none.
    ...(isIP(address.host) === 0 && { servername: address.host }),
    ...(files?.caFile !== undefined && { ca: readFileSync(files.caFile) }),
    ...(files?.certFile !== undefined && { cert: readFileSync(files.certFile) }),
    ...(files?.keyFile !== undefined && { key: readFileSync(files.keyFile) }),
  };
}

/** Returns the password, from its file if there is one. @throws Error of node:fs. */
export function readPassword({ password, files }: StoreAccess): string | undefined {
  return files?.passwordFile === undefined ? password : readPasswordFile(files.passwordFile);
}
