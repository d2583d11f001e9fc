// The client of backends in TypeScript: validates sessions, from memory where that is safe.
//
//   const client = createSessionClient({ address: "localhost:50051" });
//   const session = await client.validateToken(token);   // undefined: not logged in; an error: could not tell, fail closed

import { durationMs } from "@bufbuild/protobuf/wkt";
import { Verdict, type Session } from "../../gen/session/v1/session_pb.ts";
import type { Invalidation } from "../../gen/session/v1/invalidations_pb.ts";
import { createBatcher, type Question } from "./batcher.ts";
import { createCache } from "./cache.ts";
import { openConnection, type ClientCredentials } from "./connection.ts";
import { startWatchLoop } from "./watch_loop.ts";

export type { ClientCredentials, Invalidation, Session };

export type SessionClientOptions = {
  /** `host:port` or `unix:/path`. */
  readonly address: string;
  /** Default: no API key, plain text. */
  readonly credentials?: ClientCredentials;
  /** `false`: every lookup goes to the service. */
  readonly cache?: { readonly maxEntries?: number } | false;
  /** How long a lookup may take. Default 1,000. */
  readonly timeoutMs?: number;
};

export type ClientStatistics = {
  /** Served from memory. */
  readonly hits: number;
  /** Asked of the service because the answer was not in memory. */
  readonly misses: number;
  /** Asked of the service because memory was not safe to serve from. */
  readonly bypasses: number;
  readonly entries: number;
  /** For how long memory is safe to serve from now, 0 when it is not. */
  readonly safeForMs: number;
};

export type SessionClient = {
  /**
   * The session of a valid token; undefined for one that is not valid. Slides the idle timeout.
   * @throws the gRPC error when the service could not tell: the caller must fail closed.
   */
  validateToken(token: string, options?: { readonly ipAddress?: string }): Promise<Session | undefined>;
  /** The same for a simple, hash or device session by its id; its `fields` are left empty. */
  getSession(sessionId: string, options?: { readonly ipAddress?: string }): Promise<Session | undefined>;
  /** Calls the handler for every session that ends or changes; returns how to stop that. */
  onInvalidated(handler: (invalidation: Invalidation) => void): () => void;
  statistics(): ClientStatistics;
  close(): void;
};

const DEFAULT_MAX_ENTRIES = 10_000;
const DEFAULT_TIMEOUT_MS = 1000;

export function createSessionClient(options: SessionClientOptions): SessionClient {
  const connection = openConnection(options.address, options.credentials ?? {});
  const ask = createBatcher(connection, options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
  const cache = options.cache === false ? undefined : createCache(options.cache?.maxEntries ?? DEFAULT_MAX_ENTRIES);
  const handlers = new Set<(invalidation: Invalidation) => void>();
  const counts = { hits: 0, misses: 0, bypasses: 0 };

  const stopWatching = startWatchLoop(connection, {
    onInvalidation(invalidation) {
      cache?.invalidate(invalidation.sessionId);
      for (const handler of handlers) handler(invalidation);
    },
    onReset: () => cache?.clear(),
    onLease: (untilMs) => cache?.extendLease(untilMs),
  });

  /** Asks the service and keeps the answer if it may be kept. */
  async function fill(key: string, question: Question): Promise<Session | undefined> {
    const ticket = cache?.beginFill();
    let session: Session | undefined;
    let expiresInMs: number | undefined;
    try {
      const result = await ask(question);
      if (result.verdict === Verdict.VALID) ({ session } = result);
      // A session that is presented from elsewhere is to be seen by the service every time.
      if (!result.ipMismatch && result.expiresIn !== undefined) expiresInMs = durationMs(result.expiresIn);
    } finally {
      if (ticket !== undefined) cache!.endFill(key, ticket, session, expiresInMs);
    }
    return session;
  }

  async function find(key: string, question: Question): Promise<Session | undefined> {
    const found = cache?.lookup(key) ?? { kind: "bypass" };
    if (found.kind !== "hit") {
      if (found.kind === "miss") counts.misses++;
      else counts.bypasses++;
      return fill(key, question);
    }
    counts.hits++;
    // Slides the idle timeout of a busy session that is only ever found in memory.
    if (found.stale) fill(key, question).catch(() => undefined);
    return found.session;
  }

  return {
    validateToken(token, { ipAddress = "" } = {}) {
      return find(`token ${token} ${ipAddress}`, { handle: { case: "token", value: token }, touch: true, ipAddress });
    },
    getSession(sessionId, { ipAddress = "" } = {}) {
      const handle = { case: "sessionId", value: sessionId } as const;
      return find(`id ${sessionId} ${ipAddress}`, { handle, touch: true, ipAddress });
    },
    onInvalidated(handler) {
      handlers.add(handler);
      return () => handlers.delete(handler);
    },
    statistics: () => ({ ...counts, entries: cache?.size ?? 0, safeForMs: cache?.safeForMs ?? 0 }),
    close() {
      stopWatching();
      connection.close();
    },
  };
}
