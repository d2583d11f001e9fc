// Who calls: from the API key in `authorization: Bearer <key>` to a caller with a tenant and scopes.

import { hash, timingSafeEqual } from "node:crypto";
import type { Logger } from "pino";
import type { Principal } from "../domain/call.ts";
import { SessionError } from "../domain/errors.ts";
import { watchParsedFile } from "../lib/watched_file.ts";
import { parseApiKeys, type ApiKey } from "./api_key_file.ts";
import { SCOPES, type Scope } from "./scopes.ts";

export type AuthenticatedPrincipal = { readonly principal: Principal; readonly scopes: ReadonlySet<Scope> };

/** @throws SessionError CREDENTIAL_INVALID, the same for a missing, malformed and unknown credential. */
export type Authenticate = (call: { readonly authorization: string | undefined }) => AuthenticatedPrincipal;

export type Authentication = {
  authenticate: Authenticate;
  /** Stops watching the file. */
  close(): void;
};

type AuthenticationOptions = {
  /** Path of the API keys; without it everybody is the caller `anonymous` of the tenant `default`, with all scopes. */
  keysFile?: string | undefined;
  logger: Logger;
  /** How often to look whether the file has changed. Default 2,000. */
  pollIntervalMs?: number;
};

/** Everybody, when callers are not authenticated. */
export const ANONYMOUS: AuthenticatedPrincipal = {
  principal: { tenant: "default", name: "anonymous" },
  scopes: new Set(SCOPES),
};

/** @throws Error that names every fault of the file. */
export function createAuthentication(options: AuthenticationOptions): Authentication {
  const { keysFile, logger, pollIntervalMs } = options;
  if (keysFile === undefined) return { authenticate: () => ANONYMOUS, close: () => undefined };
  const callers = watchParsedFile(keysFile, { parse: parseCallers, log: logger, what: "API keys", pollIntervalMs });

  return {
    authenticate({ authorization }) {
      const key = /^bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
      const known = key === undefined ? undefined : findCaller(callers.current(), hash("sha256", key, "buffer"));
      if (known === undefined) throw new SessionError("CREDENTIAL_INVALID", "no valid API key was presented");
      return known;
    },
    close: () => callers.close(),
  };
}

type KnownCaller = AuthenticatedPrincipal & { readonly digest: Buffer };

function parseCallers(text: string): KnownCaller[] {
  const { keys, faults } = parseApiKeys(text);
  if (faults.length > 0) throw new Error(faults.join("; "));
  return keys.map((key: ApiKey) => ({
    digest: key.digest,
    principal: { tenant: key.tenant, name: key.name },
    scopes: key.scopes,
  }));
}

// All keys are compared, each in constant time: how long it takes says nothing about any of them.
function findCaller(callers: readonly KnownCaller[], digest: Buffer): KnownCaller | undefined {
  let found: KnownCaller | undefined;
  for (const known of callers) if (timingSafeEqual(known.digest, digest)) found = known;
  return found;
}
