// Decides whether a session is valid, for every method that validates by session_id or token.

import { timingSafeEqual } from "node:crypto";
import type { CallContext } from "../../domain/call.ts";
import { verifyToken, type TokenKeyRing } from "../../domain/token.ts";
import type { StoreClock } from "../../store/store_clock.ts";
import { IP_BINDING, type SessionRecord } from "../../store/session_record.ts";
import type { StoredSession } from "../../store/stored_session.ts";
import type { SessionCredential, SessionStore } from "../../store/simple_sessions.ts";
import type { SecureSessionStore } from "../../store/secure_sessions.ts";
import { authenticationMessage } from "../session_message.ts";
import type { IpBindingCheck } from "./ip_binding.ts";
import { createTouch, type Touch } from "./touch.ts";

/** A credential to validate, and how. */
export type ValidationRequest = {
  /** A session that a token opens is valid by its token only, every other one by its id only. */
  readonly credentialKind: "id" | "token";
  readonly credential: string;
  /** True if the validation is an access, which slides the idle timeout. */
  readonly touch: boolean;
  /** The client's address, for the session's ip_binding. Empty: not compared. */
  readonly ipAddress: string;
  /** The greatest age of the proof of identity, and the least level of assurance. Infinity and 0: not checked. */
  readonly maxAuthAgeMs: number;
  readonly minLevel: number;
  /** True if the session's fields are wanted. */
  readonly includeFields: boolean;
};

export type ValidSession = {
  readonly record: SessionRecord;
  /** Undefined if they were not asked for. */
  readonly fields: ReadonlyMap<string, string> | undefined;
  readonly ipMismatch: boolean;
  /**
   * A lower bound of how long the session has left. Undefined if the store's time is unknown, and for a former id or a
   * retired secret within its grace, which may end first.
   */
  readonly expiresInMs: number | undefined;
  /** True if the session falls short of the request's maxAuthAgeMs or minLevel. */
  readonly stepUpRequired: boolean;
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

/** A session after its access, with its fields if they were read. */
type AccessedSession = Pick<StoredSession, "record"> & Partial<StoredSession>;

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
  #sessionNamedBy({ credentialKind, credential }: ValidationRequest, call: CallContext): SessionCredential | undefined {
    if (credentialKind === "id") return { sessionId: credential };
    const verified = verifyToken(this.#deps.keyRing(), call.principal.tenant, credential);
    return verified && { sessionId: verified.sessionId, secretDigest: verified.digest };
  }

  /** Returns a promise only if the store is needed again: most requests need nothing but the record. */
  #evaluate(
    request: ValidationRequest,
    presented: SessionCredential,
    record: SessionRecord | undefined,
    call: CallContext,
  ): ValidationResult | Promise<ValidationResult> {
    const { sessionId, secretDigest } = presented;
    if (record === undefined) return undefined;
    if (record.isOpenedByToken !== (secretDigest !== undefined)) return undefined;
    const hasCurrentSecret = secretDigest === undefined || timingSafeEqual(record.secretDigest, secretDigest);
    const comparesIp = request.ipAddress !== "" && record.ipBinding !== IP_BINDING.off;
    const touchIsDue = request.touch && this.#touch.isDue(record);
    if (!hasCurrentSecret || comparesIp || touchIsDue || request.includeFields) {
      return this.#evaluateWithStore(request, presented, record, hasCurrentSecret, call);
    }
    return this.#validSession(request, { record }, record.sessionId !== sessionId, false);
  }

  /**
   * Evaluates a request that takes a further store call: for a retired secret, the idle timeout, fields or the ip_binding. What
   * was found by reading the record may have changed since, so each script evaluates the credential again, and the ip_binding
   * is that of the session which the response is made of.
   */
  async #evaluateWithStore(
    request: ValidationRequest,
    presented: SessionCredential,
    found: SessionRecord,
    hasCurrentSecret: boolean,
    call: CallContext,
  ): Promise<ValidationResult> {
    const { secureSessions, checkIpBinding } = this.#deps;
    const { sessionId, secretDigest } = presented;
    // Only the store's clock decides whether a retired secret is within its grace or reused.
    const record = hasCurrentSecret ? found : (await secureSessions.check(sessionId, secretDigest!, call))?.record;
    if (record === undefined) return undefined;
    const accessed = await this.#access(request, presented, record, call);
    if (accessed === undefined) return undefined;
    const ip = await checkIpBinding(accessed.record, presented, request.ipAddress, call);
    if (ip === "ended") return undefined;
    const isInGrace =
      accessed.record.sessionId !== sessionId ||
      (secretDigest !== undefined && !timingSafeEqual(accessed.record.secretDigest, secretDigest));
    return this.#validSession(request, accessed, isInGrace, ip === "mismatch");
  }

  /** Slides the idle timeout and reads the fields, as far as the request asks for it. */
  async #access(
    { touch, includeFields }: ValidationRequest,
    presented: SessionCredential,
    record: SessionRecord,
    call: CallContext,
  ): Promise<AccessedSession | undefined> {
    if (includeFields) return this.#touch.read(presented, touch, call);
    return touch && this.#touch.isDue(record) ? this.#touch.slide(presented, record, call) : { record };
  }

  #validSession(
    { maxAuthAgeMs, minLevel, includeFields }: ValidationRequest,
    { record, fields }: AccessedSession,
    isInGrace: boolean,
    ipMismatch: boolean,
  ): ValidSession {
    const nowMs = this.#deps.clock.nowMs();
    const expiresInMs =
      isInGrace || nowMs === undefined ? undefined : Math.max(0, Math.floor(record.expiresMs - nowMs));
    const stepUpRequired =
      (maxAuthAgeMs !== Infinity && !isAuthenticatedWithin(record, maxAuthAgeMs, nowMs)) ||
      (minLevel > 0 && (authenticationMessage(record)?.level ?? 0) < minLevel);
    return { record, fields: includeFields ? fields : undefined, ipMismatch, expiresInMs, stepUpRequired };
  }
}

/** Errs on the side of a new proof: the estimate of the store's clock is never behind it, and may be unknown. */
function isAuthenticatedWithin({ authenticatedMs }: SessionRecord, maxAgeMs: number, nowMs = Infinity): boolean {
  return authenticatedMs !== 0 && nowMs - authenticatedMs <= maxAgeMs;
}
