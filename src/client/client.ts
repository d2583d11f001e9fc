// The client of backends in TypeScript: validates sessions, from memory where that is safe.
//
//   const client = createSessionClient({ address: "localhost:50051" });
//   const session = await client.validateToken(token);   // undefined: not logged in; an error: could not tell, fail closed

import { durationMs } from "@bufbuild/protobuf/wkt";
import { Verdict, type Session } from "../../gen/session/v1/session_pb.ts";
import type { Invalidation } from "../../gen/session/v1/watch_pb.ts";
import { createBatcher, type ValidateEntryInit } from "./batcher.ts";
import { createCache, type FillResult } from "./cache.ts";
import { openConnection, type ClientCredentials } from "./connection.ts";
import { startWatchLoop } from "./watch_loop.ts";

export type { ClientCredentials, Invalidation, Session };

export type SessionClientOptions = {
  /** `host:port` or `unix:/path`. */
  readonly address: string;
  /** Default: no API key, plain text. */
  readonly credentials?: ClientCredentials;
  /** `false`: every lookup goes to the service. Default: 10,000 entries. */
  readonly cache?: { readonly maxEntries?: number } | false;
  /** How long a lookup may take: 1 to 2,500, so that no answer is older than a lease. Default 1,000. */
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
  /** Why the watch broke last; undefined while it holds. */
  readonly watchError: string | undefined;
};

export type SessionClient = {
  /**
   * The session of a valid token; undefined for one that is not valid. Slides the idle timeout. Callers share what it
   * returns: it is frozen.
   * @throws the gRPC error when the service could not tell: the caller must fail closed.
   */
  validateToken(token: string, options?: { readonly ipAddress?: string }): Promise<Session | undefined>;
  /** The same for a simple, hash or device session by its id; its `fields` are left empty. */
  getSession(sessionId: string, options?: { readonly ipAddress?: string }): Promise<Session | undefined>;
  /** Calls the handler for every session that ends or changes, perhaps twice; returns how to stop that. */
  onInvalidated(handler: (invalidation: Invalidation) => void): () => void;
  /** Calls the handler when invalidations may have been missed, perhaps several times in a row; returns how to stop that. */
  onReset(handler: () => void): () => void;
  statistics(): ClientStatistics;
  /** Ends the connection; lookups that wait for an answer are rejected. */
  close(): void;
};

/** What a client is made of; a test may put something else in. */
export type ClientParts = {
  readonly openConnection: typeof openConnection;
  readonly createCache: typeof createCache;
  readonly startWatchLoop: typeof startWatchLoop;
};

export const CLIENT_PARTS: ClientParts = { openConnection, createCache, startWatchLoop };

const DEFAULT_MAX_ENTRIES = 10_000;
const DEFAULT_TIMEOUT_MS = 1000;
const MAX_TIMEOUT_MS = 2500;
/** Of a token, an id or an address; the service refuses the whole message for one that is longer. */
const MAX_TEXT_BYTES = 256;

export function createSessionClient(options: SessionClientOptions): SessionClient {
  return assembleSessionClient(options, CLIENT_PARTS);
}

export function assembleSessionClient(options: SessionClientOptions, parts: ClientParts): SessionClient {
  const { timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  if (!(timeoutMs >= 1 && timeoutMs <= MAX_TIMEOUT_MS)) throw new RangeError(`timeoutMs is 1 to ${MAX_TIMEOUT_MS}`);
  const connection = parts.openConnection(options.address, options.credentials ?? {});
  const ask = createBatcher(connection, timeoutMs);
  const cache =
    options.cache === false ? undefined : parts.createCache(options.cache?.maxEntries ?? DEFAULT_MAX_ENTRIES);
  const invalidated = createHandlers<Invalidation>();
  const reset = createHandlers<void>();
  const counts = { hits: 0, misses: 0, bypasses: 0 };
  let watchError: string | undefined;
  let stopWatching: (() => void) | undefined;
  let closed = false;

  /** Without a cache there is something to watch for only once somebody wants to hear of it. */
  function watch(): void {
    if (closed) return;
    stopWatching ??= parts.startWatchLoop(connection, {
      onInvalidation(invalidation) {
        cache?.invalidate(invalidation.sessionId);
        invalidated.call(invalidation);
      },
      onReset(partition) {
        if (partition === undefined) cache?.clear();
        else cache?.clearPartition(partition);
        reset.call();
      },
      onLease(untilMs) {
        watchError = undefined;
        cache?.extendLease(untilMs);
      },
      onBroken: (why) => void (watchError = why),
    });
  }
  if (cache !== undefined) watch();

  /** Asks the service and keeps the answer if it may be kept. */
  async function fill(key: string, question: ValidateEntryInit): Promise<Session | undefined> {
    const ticket = cache?.beginFill();
    try {
      const { verdict, session, ipMismatch, expiresIn } = await ask(question);
      const valid = verdict === Verdict.VALID ? freeze(session) : undefined;
      let answer: FillResult | undefined;
      // A session that is presented from elsewhere is to be seen by the service every time; an id that was regenerated
      // leads to its successor for a grace, of which the answer does not tell the end.
      const successor = question.handle?.case === "sessionId" && question.handle.value !== valid?.sessionId;
      if (valid !== undefined && expiresIn !== undefined && !ipMismatch && !successor) {
        answer = { session: valid, expiresInMs: durationMs(expiresIn) };
      }
      if (ticket !== undefined) cache!.endFill(key, ticket, answer);
      return valid;
    } catch (error) {
      if (ticket !== undefined) cache!.abandonFill(key, ticket);
      throw error;
    }
  }

  async function find(kind: "token" | "sessionId", value: string, ipAddress: string): Promise<Session | undefined> {
    if (closed) throw new Error("the client is closed");
    if (!mayBeAsked(ipAddress)) throw new TypeError(`ipAddress is not text of at most ${MAX_TEXT_BYTES} bytes`);
    // Nothing of the kind was ever given out.
    if (!mayBeAsked(value)) return undefined;
    const key = `${kind}/${ipAddress.length}/${ipAddress}/${value}`;
    const question: ValidateEntryInit = { handle: { case: kind, value }, touch: true, ipAddress };
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
    validateToken: (token, { ipAddress = "" } = {}) => find("token", token, ipAddress),
    getSession: (sessionId, { ipAddress = "" } = {}) => find("sessionId", sessionId, ipAddress),
    onInvalidated(handler) {
      watch();
      return invalidated.add(handler);
    },
    onReset(handler) {
      watch();
      return reset.add(handler);
    },
    statistics: () => ({ ...counts, entries: cache?.size ?? 0, safeForMs: cache?.safeForMs ?? 0, watchError }),
    close() {
      closed = true;
      stopWatching?.();
      cache?.clear();
      connection.close();
    },
  };
}

/** Handlers of the caller's; what one of them throws is a warning of the process and hurts nobody else. */
function createHandlers<T>() {
  const handlers = new Set<{ readonly handler: (value: T) => unknown }>();
  return {
    add(handler: (value: T) => unknown): () => void {
      const added = { handler };
      handlers.add(added);
      return () => void handlers.delete(added);
    },
    call(value: T): void {
      for (const { handler } of handlers) (async () => handler(value))().catch(warn);
    },
  };
}

function warn(error: unknown): void {
  process.emitWarning(error instanceof Error ? error : String(error));
}

function mayBeAsked(text: string): boolean {
  return Buffer.byteLength(text) <= MAX_TEXT_BYTES && text.isWellFormed();
}

function freeze<T>(value: T): T {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return value;
  for (const member of Object.values(value)) freeze(member);
  return Object.freeze(value);
}
