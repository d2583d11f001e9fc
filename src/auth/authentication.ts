// Authenticates the caller of a request: `authorization: Bearer <API key>` gives a principal and its scopes.

import { hash, timingSafeEqual } from "node:crypto";
import type { Logger } from "pino";
import type { Principal } from "../domain/call.ts";
import { SessionError } from "../domain/errors.ts";
import { watchParsedFile } from "../lib/watched_file.ts";
import { parseApiKeys, SCOPES, type Scope } from "./api_key_file.ts";

export type AuthenticatedPrincipal = { readonly principal: Principal; readonly scopes: ReadonlySet<Scope> };

/** @throws SessionError CREDENTIAL_INVALID; the same error for a missing, a malformed and an unknown credential. */
export type Authenticate = (call: { readonly authorization: string | undefined }) => AuthenticatedPrincipal;

export type Authentication = {
  authenticate: Authenticate;
  /** Stops watching the file. */
  close(): void;
};

type AuthenticationOptions = {
  /** Path of the API key file. Without it, every caller is ANONYMOUS. */
  keysFile?: string | undefined;
  logger: Logger;
  /** How often the file is checked for changes. Default 2,000. */
  pollIntervalMs?: number;
};

/** The principal of every caller when callers are not authenticated. */
export const ANONYMOUS: AuthenticatedPrincipal = {
  principal: { tenant: "default", name: "anonymous" },
  scopes: new Set(SCOPES),
};

/** @throws Error that lists every fault of the key file. */
export function createAuthentication(options: AuthenticationOptions): Authentication {
  const { keysFile, logger, pollIntervalMs } = options;
  if (keysFile === undefined) return { authenticate: () => ANONYMOUS, close: () => undefined };
  const known = watchParsedFile(keysFile, { parse: parsePrincipals, log: logger, what: "API keys", pollIntervalMs });

  return {
    authenticate({ authorization }) {
      const key = /^bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
      const found = key === undefined ? undefined : findByDigest(known.current(), hash("sha256", key, "buffer"));
      if (found === undefined) throw new SessionError("CREDENTIAL_INVALID", "no valid API key was presented");
      return found;
    },
    close: () => known.close(),
  };
}

type KnownPrincipal = AuthenticatedPrincipal & { readonly digest: Buffer };

function parsePrincipals(text: string): KnownPrincipal[] {
  const { keys, faults } = parseApiKeys(text);
  if (faults.length > 0) throw new Error(faults.join("; "));
  return keys.map((key) => ({
    digest: key.digest,
    principal: { tenant: key.tenant, name: key.name },
    scopes: key.scopes,
  }));
}

// Compares every key, each in constant time, so that the duration reveals nothing about any of them.
function findByDigest(principals: readonly KnownPrincipal[], digest: Buffer): KnownPrincipal | undefined {
  let found: KnownPrincipal | undefined;
  for (const candidate of principals) if (timingSafeEqual(candidate.digest, digest)) found = candidate;
  return found;
}
