// The client of backends in TypeScript: validates sessions, from memory where that is safe.
//
//   const client = createSessionClient({ address: "localhost:50051" });
//   const session = await client.validateToken(token);   // undefined: not logged in; on an error fail closed

import type { Session } from "../../gen/session/v1/session_pb.ts";
import type { Invalidation } from "../../gen/session/v1/watch_pb.ts";
import { createBatcher } from "./batcher.ts";
import { SessionCache } from "./cache.ts";
import { ClientWatch } from "./client_watch.ts";
import { openConnection, type ClientCredentials } from "./connection.ts";
import { SessionLookup } from "./lookup.ts";
import { startWatchLoop } from "./watch_loop.ts";

export type { ClientCredentials, Invalidation, Session };

export type SessionClientOptions = {
  /** `host:port` or `unix:/path`. */
  readonly address: string;
  /** Default: no API key, and a connection without TLS. */
  readonly credentials?: ClientCredentials;
  /** `false`: every lookup goes to the service. Default: 10,000 entries. */
  readonly cache?: { readonly maxEntries?: number } | false;
  /** How long a lookup may take: 1 to 2,500, so that no response is older than a lease. Default 1,000. */
  readonly timeoutMs?: number;
};

export type ClientStatistics = {
  /** Lookups served from memory. */
  readonly hits: number;
  /** Lookups sent to the service because the session was not in memory. */
  readonly misses: number;
  /** Lookups sent to the service because memory was not safe to serve from. */
  readonly bypasses: number;
  readonly entries: number;
  /** How long memory is safe to serve from, from now on; 0 when it is not safe. */
  readonly safeForMs: number;
  /** Why the watch broke last; undefined while it works. */
  readonly watchError: string | undefined;
};

export type SessionClient = {
  /**
   * Resolves with the session of a valid token, and with undefined for a token that is not valid. Slides the idle timeout. The
   * session is frozen, because callers share it.
   * @throws SessionClientError if the service gives no verdict: the caller must fail closed.
   */
  validateToken(token: string, options?: { readonly ipAddress?: string }): Promise<Session | undefined>;
  /** Does the same for a simple, hash or device session by its id; `fields` of the session is empty. */
  getSession(sessionId: string, options?: { readonly ipAddress?: string }): Promise<Session | undefined>;
  /**
   * Calls the handler for every session that ends or changes, perhaps more than once for the same change. Returns a function
   * that removes the handler.
   */
  onInvalidated(handler: (invalidation: Invalidation) => void): () => void;
  /**
   * Calls the handler when invalidations may have been missed, perhaps several times in a row. Returns a function that removes
   * the handler.
   */
  onReset(handler: () => void): () => void;
  /**
   * Resolves when the client can serve from memory, or without a cache when it is connected.
   * @throws Error with the cause if that takes longer than `timeoutMs` (default 10,000), and if the client is closed.
   */
  waitUntilReady(options?: { readonly timeoutMs?: number }): Promise<void>;
  statistics(): ClientStatistics;
  /** Ends the connection; lookups that wait for a response are rejected. */
  close(): void;
};

/** The parts of a client that tests may replace. */
export const CLIENT_PARTS = {
  openConnection,
  createCache: (maxEntries: number) => new SessionCache(maxEntries),
  startWatchLoop,
};

export type ClientParts = Readonly<typeof CLIENT_PARTS>;

const DEFAULT_MAX_ENTRIES = 10_000;
const DEFAULT_TIMEOUT_MS = 1000;
const MAX_TIMEOUT_MS = 2500;
const DEFAULT_READY_MS = 10_000;

export function createSessionClient(options: SessionClientOptions): SessionClient {
  return assembleSessionClient(options, CLIENT_PARTS);
}

export function assembleSessionClient(options: SessionClientOptions, parts: ClientParts): SessionClient {
  const { timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  const maxEntries = options.cache === false ? 0 : (options.cache?.maxEntries ?? DEFAULT_MAX_ENTRIES);
  if (options.cache !== false && !(Number.isSafeInteger(maxEntries) && maxEntries > 0)) {
    throw new RangeError("cache.maxEntries is a whole number above 0");
  }
  if (!(timeoutMs >= 1 && timeoutMs <= MAX_TIMEOUT_MS)) throw new RangeError(`timeoutMs is 1 to ${MAX_TIMEOUT_MS}`);
  const connection = parts.openConnection(options.address, options.credentials ?? {});
  const cache = options.cache === false ? undefined : parts.createCache(maxEntries);
  const sessions = new SessionLookup(createBatcher(connection, timeoutMs), cache);
  const watch = new ClientWatch(connection, cache, parts.startWatchLoop);
  return {
    validateToken: (token, { ipAddress = "" } = {}) => sessions.find("token", token, ipAddress),
    getSession: (sessionId, { ipAddress = "" } = {}) => sessions.find("sessionId", sessionId, ipAddress),
    onInvalidated: (handler) => watch.onInvalidated(handler),
    onReset: (handler) => watch.onReset(handler),
    waitUntilReady: ({ timeoutMs: readyMs = DEFAULT_READY_MS } = {}) =>
      cache === undefined ? connection.waitUntilConnected(readyMs) : watch.waitForLease(cache, readyMs),
    statistics: () => ({
      ...sessions.counts,
      entries: cache?.size ?? 0,
      safeForMs: cache?.safeForMs ?? 0,
      watchError: watch.error,
    }),
    close() {
      sessions.close();
      watch.close();
      connection.close();
    },
  };
}
