// Session lookups: from the cache while that is safe, otherwise from the service, whose response fills the cache.

import { durationMs } from "@bufbuild/protobuf/wkt";
import type { ValidateResult } from "../../gen/session/v1/bulk_validation_pb.ts";
import { Verdict, type Session } from "../../gen/session/v1/session_pb.ts";
import { cutText } from "../lib/cut_text.ts";
import type { ValidateEntry } from "./batcher.ts";
import { DEAD, type FillResult, type SessionCache } from "./cache.ts";

/** The service cuts an address there. */
const MAX_ADDRESS_BYTES = 256;

/** The tokens and ids that the service makes. It finds no session for any other text. */
const FORMS = { token: /^sat1_[\w-]{116}$/, sessionId: /^[\w-]{28}$/ };

export type HandleKind = keyof typeof FORMS;

/** What is looked up: a token or an id, and the address that the request comes from. `handle` is the same for all addresses. */
type LookupRequest = {
  readonly kind: HandleKind;
  readonly value: string;
  readonly address: string;
  readonly handle: string;
};

/** The outcome of a request to the service. */
type Answer = {
  readonly session: Session | undefined;
  /** False if an invalidation that arrived meanwhile may concern the session: the next lookup needs a new request. */
  readonly isCurrent: boolean;
};

export class SessionLookup {
  readonly counts = { hits: 0, misses: 0, bypasses: 0 };
  readonly #validate: ValidateEntry;
  readonly #cache: SessionCache | undefined;
  // The requests under way, so that many misses of one session share one.
  readonly #requests = new Map<string, Promise<Answer>>();
  #isClosed = false;

  /** Without a cache every lookup goes to the service. */
  constructor(validate: ValidateEntry, cache: SessionCache | undefined) {
    this.#validate = validate;
    this.#cache = cache;
  }

  /** Resolves with undefined for a session that is not valid; rejects if the service gives no verdict. */
  async find(kind: HandleKind, value: string, ipAddress: string): Promise<Session | undefined> {
    if (this.#isClosed) throw new Error("the client is closed");
    if (!FORMS[kind].test(value)) return undefined;
    const request = { kind, value, address: cutText(ipAddress, MAX_ADDRESS_BYTES), handle: `${kind}/${value}` };
    const found = this.#cache?.lookup(request.handle, request.address) ?? { kind: "bypass" };
    switch (found.kind) {
      case "hit":
        this.counts.hits++;
        // Slides the idle timeout of a session that is found in the cache each time.
        if (found.needsRefresh) this.#share(request).catch(() => undefined);
        return found.session;
      case "dead":
        this.counts.hits++;
        return undefined;
      case "miss":
        this.counts.misses++;
        return this.#findShared(request);
      case "bypass":
        // Never shared: a request that was sent before may be older than an end that the cache does not know of.
        this.counts.bypasses++;
        return (await this.#request(request)).session;
    }
  }

  close(): void {
    this.#isClosed = true;
  }

  /** Joins a request under way. If an invalidation made its response stale for this lookup, makes another. */
  async #findShared(request: LookupRequest): Promise<Session | undefined> {
    const joined = this.#requests.has(keyOf(request));
    const { session, isCurrent } = await this.#share(request);
    return joined && !isCurrent ? (await this.#request(request)).session : session;
  }

  #share(request: LookupRequest): Promise<Answer> {
    const key = keyOf(request);
    const underWay = this.#requests.get(key);
    if (underWay !== undefined) return underWay;
    const answer = this.#request(request).finally(() => this.#requests.delete(key));
    this.#requests.set(key, answer);
    return answer;
  }

  async #request(request: LookupRequest): Promise<Answer> {
    const { kind, value, address, handle } = request;
    const ticket = this.#cache?.beginFill();
    try {
      const entry = { handle: { case: kind, value }, touch: true, ipAddress: address };
      const validated = await this.#validate(keyOf(request), entry);
      const result = toFillResult(validated, kind, value);
      const isCurrent = ticket === undefined || this.#cache!.endFill(handle, address, ticket, result);
      return { session: result === DEAD ? undefined : result.session, isCurrent };
    } catch (error) {
      if (ticket !== undefined) this.#cache!.abandonFill(handle, address, ticket);
      throw error;
    }
  }
}

function toFillResult(
  { verdict, session, ipMismatch, expiresIn }: ValidateResult,
  kind: HandleKind,
  value: string,
): FillResult {
  if (verdict !== Verdict.VALID || session === undefined) return DEAD;
  // The service has to see every request from another address. A regenerated id leads to its successor for a grace, whose end
  // the response does not contain.
  const isSuccessor = kind === "sessionId" && value !== session.sessionId;
  const isCacheable = expiresIn !== undefined && !ipMismatch && !isSuccessor;
  return { session: freeze(session), expiresInMs: isCacheable ? durationMs(expiresIn) : undefined };
}

function keyOf({ address, handle }: LookupRequest): string {
  return `${address.length}/${address}/${handle}`;
}

function freeze<T>(value: T): T {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return value;
  for (const member of Object.values(value)) freeze(member);
  return Object.freeze(value);
}
