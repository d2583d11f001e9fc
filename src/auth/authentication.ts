// Authenticates the caller of a request: `authorization: Bearer <API key>` gives a principal and its scopes.

import { hash, timingSafeEqual } from "node:crypto";
import type { Logger } from "pino";
import { SessionError } from "../domain/errors.ts";
import { watchParsedFile } from "../lib/watched_file.ts";
import type { Principal } from "../domain/call.ts";
import { SCOPES } from "../domain/scope.ts";
import { parseApiKeys, type ApiKey } from "./api_key_file.ts";

/** @throws SessionError CREDENTIAL_INVALID; the same error for a missing, a malformed and an unknown credential. */
export type Authenticate = (call: { readonly authorization: string | undefined }) => Principal;

export type Authentication = {
  authenticate: Authenticate;
  /** Registers what is called after the keys have changed. */
  onChange(listener: () => void): void;
  /** Stops watching the file. */
  close(): void;
};

type AuthenticationOptions = {
  /** Path of the API key file. Without it, every caller is ANONYMOUS. */
  keysFile?: string | undefined;
  logger: Logger;
  /** How often the file is checked for changes. Default 1,000. */
  pollIntervalMs?: number;
};

/** The principal of every caller when callers are not authenticated. */
export const ANONYMOUS: Principal = { tenant: "default", name: "anonymous", scopes: new Set(SCOPES) };

/** @throws Error that lists every fault of the key file. */
export function createAuthentication(options: AuthenticationOptions): Authentication {
  const { keysFile, logger, pollIntervalMs } = options;
  if (keysFile === undefined) {
    return { authenticate: () => ANONYMOUS, onChange: () => undefined, close: () => undefined };
  }
  const listeners: (() => void)[] = [];
  const keys = watchParsedFile(keysFile, {
    parse: parseApiKeys,
    log: logger,
    what: "API keys",
    pollIntervalMs,
    onReload: () => listeners.forEach((listener) => listener()),
  });

  return {
    authenticate({ authorization }) {
      const key = /^bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
      const found = key === undefined ? undefined : findByDigest(keys.current(), hash("sha256", key, "buffer"));
      if (found === undefined) throw new SessionError("CREDENTIAL_INVALID", "no valid API key was presented");
      return found.principal;
    },
    onChange: (listener) => void listeners.push(listener),
    close: keys.close,
  };
}

// Compares every key, each in constant time, so that the duration reveals nothing about any of them.
function findByDigest(keys: readonly ApiKey[], digest: Buffer): ApiKey | undefined {
  let found: ApiKey | undefined;
  for (const candidate of keys) if (timingSafeEqual(candidate.digest, digest)) found = candidate;
  return found;
}
