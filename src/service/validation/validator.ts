// Decides whether a session is valid, for every method that validates by session_id or token.

import { timingSafeEqual } from "node:crypto";
import type { CallContext } from "../../domain/call.ts";
import { verifyToken, type TokenKeyRing, type VerifiedToken } from "../../domain/token.ts";
import type { StoreClock } from "../../store/store_clock.ts";
import { IP_BINDING, SESSION_KIND, type SessionRecord } from "../../store/session_record.ts";
import type { SessionStore } from "../../store/simple_sessions.ts";
import type { SecureSessionStore } from "../../store/secure_sessions.ts";
import type { IpBindingCheck } from "./ip_binding.ts";
import { createTouch, type Touch } from "./touch.ts";

/** A credential to validate, and how. */
export type ValidationRequest = {
  /** A secure session is valid by its token only, every other one by its id only. */
  readonly credentialKind: "id" | "token";
  readonly credential: string;
  /** True if the validation is an access, which slides the idle timeout. */
  readonly touch: boolean;
  /** The client's address, for the session's ip_binding. Empty: not compared. */
  readonly ipAddress: string;
};

export type ValidSession = {
  readonly record: SessionRecord;
  readonly ipMismatch: boolean;
  /**
   * A lower bound of how long the session has left. Undefined if the store's time is unknown, and for a former id or a
   * retired secret within its grace, which may end first.
   */
  readonly expiresInMs: number | undefined;
};

/** Undefined for a credential that is not valid, whatever the reason. */
export type ValidationResult = ValidSession | undefined;

export type ValidatorDependencies = {
  readonly sessions: Pick<SessionStore, "readRecords" | "get">;
  readonly secureSessions: Pick<SecureSessionStore, "check">;
  readonly checkIpBinding: IpBindingCheck;
  readonly clock: Pick<StoreClock, "nowMs">;
  /** The keys in force now; they change while the service runs. */
  readonly keyRing: () => TokenKeyRing;
  /** The value of SA_TOUCH_INTERVAL, of which at most idle timeout / 10 counts. Undefined: the default. */
  readonly touchIntervalMs: number | undefined;
};

/** The session that a credential names, and the digest of its secret if the credential is a token. */
type NamedSession = Pick<VerifiedToken, "sessionId"> & { readonly digest?: Buffer };

export class SessionValidator {
  readonly #deps: ValidatorDependencies;
  readonly #touch: Touch;

  constructor(deps: ValidatorDependencies) {
    this.#deps = deps;
    this.#touch = createTouch(deps.sessions, deps.clock, deps.touchIntervalMs);
  }

  /** @throws SessionError if the store does not reply; the caller must fail closed. */
  async validate(request: ValidationRequest, call: CallContext): Promise<ValidationResult> {
    const named = this.#sessionNamedBy(request, call);
    if (named === undefined) return undefined;
    const [record] = await this.#deps.sessions.readRecords([named.sessionId], call);
    return this.#evaluate(request, named, record, call);
  }

  /**
   * Returns the results in the order of the requests.
   *
   * @throws SessionError if the store does not reply: then no request has a result.
   */
  async validateAll(requests: readonly ValidationRequest[], call: CallContext): Promise<ValidationResult[]> {
    const named = requests.map((request) => this.#sessionNamedBy(request, call));
    const sessionIds = named.filter((session) => session !== undefined).map(({ sessionId }) => sessionId);
    const records = sessionIds.length === 0 ? [] : await this.#deps.sessions.readRecords(sessionIds, call);
    let next = 0;
    const results = named.map((session, i) => session && this.#evaluate(requests[i]!, session, records[next++], call));
    return results.some((result) => result instanceof Promise)
      ? await Promise.all(results)
      : (results as ValidationResult[]);
  }

  /** Returns undefined for a token that is malformed, forged or of another tenant, which therefore costs no store call. */
  #sessionNamedBy({ credentialKind, credential }: ValidationRequest, call: CallContext): NamedSession | undefined {
    if (credentialKind === "id") return { sessionId: credential };
    return verifyToken(this.#deps.keyRing(), call.principal.tenant, credential);
  }

  /** Returns a promise only if the store is needed again: most requests need nothing but the record. */
  #evaluate(
    request: ValidationRequest,
    named: NamedSession,
    record: SessionRecord | undefined,
    call: CallContext,
  ): ValidationResult | Promise<ValidationResult> {
    const { sessionId, digest } = named;
    if (record === undefined) return undefined;
    const needsToken = record.kind === SESSION_KIND.secure;
    if (needsToken !== (digest !== undefined)) return undefined;
    const hasCurrentSecret = digest === undefined || timingSafeEqual(record.secretDigest, digest);
    const comparesIp = request.ipAddress !== "" && record.ipBinding !== IP_BINDING.off;
    if (!hasCurrentSecret || comparesIp || (request.touch && this.#touch.isDue(record))) {
      return this.#evaluateWithStore(request, named, record, hasCurrentSecret, call);
    }
    return this.#validSession(record, record.sessionId !== sessionId, false);
  }

  /** Evaluates a request that takes a further store call: for a retired secret, the ip_binding or the idle timeout. */
  async #evaluateWithStore(
    { credentialKind, touch, ipAddress }: ValidationRequest,
    { sessionId, digest }: NamedSession,
    found: SessionRecord,
    hasCurrentSecret: boolean,
    call: CallContext,
  ): Promise<ValidationResult> {
    const { secureSessions, checkIpBinding } = this.#deps;
    // Only the store's clock decides whether a retired secret is within its grace or reused.
    const record = hasCurrentSecret ? found : (await secureSessions.check(sessionId, digest!, call))?.record;
    if (record === undefined) return undefined;
    const isInGrace = !hasCurrentSecret || record.sessionId !== sessionId;
    const ip = await checkIpBinding(record, ipAddress, call);
    if (ip === "ended") return undefined;
    const touched = touch && this.#touch.isDue(record) ? await this.#touch.slide(record, credentialKind, call) : record;
    return touched && this.#validSession(touched, isInGrace, ip === "mismatch");
  }

  #validSession(record: SessionRecord, isInGrace: boolean, ipMismatch: boolean): ValidSession {
    const nowMs = isInGrace ? undefined : this.#deps.clock.nowMs();
    const expiresInMs = nowMs === undefined ? undefined : Math.max(0, Math.floor(record.expiresMs - nowMs));
    return { record, ipMismatch, expiresInMs };
  }
}
