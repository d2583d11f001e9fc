// "Is it valid?", for all methods that ask it: by session_id or by token.

import { timingSafeEqual } from "node:crypto";
import type { CallContext } from "../../domain/call.ts";
import { SessionError } from "../../domain/errors.ts";
import { openToken, type TokenKeyRing } from "../../domain/token.ts";
import type { StoreClock } from "../../store/store_clock.ts";
import { IP_BINDING, SESSION_KIND, type SessionRecord } from "../../store/session_record.ts";
import type { SessionStore } from "../../store/simple_sessions.ts";
import type { SecureSessionStore } from "../../store/secure_sessions.ts";
import type { IpBindingCheck } from "./ip_binding.ts";

/** What is presented, and how it is to be judged. */
export type ValidationRequest = {
  /** A session_id opens no secure session, a token only that. */
  readonly credentialKind: "id" | "token";
  readonly credential: string;
  /** Whether the check is an access. */
  readonly touch: boolean;
  /** Empty: not compared. */
  readonly ipAddress: string;
};

/** What is known of a session that is valid. */
export type ValidSession = {
  readonly record: SessionRecord;
  readonly ipMismatch: boolean;
  /** How long it has left at least; undefined when that cannot be said. */
  readonly expiresInMs: number | undefined;
};

/** Undefined: not valid, whatever the reason. */
export type ValidationResult = ValidSession | undefined;

type ValidatorDeps = {
  readonly sessions: SessionStore;
  readonly tokens: SecureSessionStore;
  readonly checkIpBinding: IpBindingCheck;
  readonly clock: StoreClock;
  readonly keyRing: () => TokenKeyRing;
  /** Accesses closer together than this slide once; undefined: idle/100, at most 60 s. */
  readonly touchIntervalMs: number | undefined;
};

export type SessionValidator = {
  /** @throws SessionError when it cannot be told whether the session is valid. */
  validate(question: ValidationRequest, call: CallContext): Promise<ValidationResult>;
  /** Answers in the order of the questions. */
  validateAll(questions: readonly ValidationRequest[], call: CallContext): Promise<ValidationResult[]>;
};

/** What a question comes to before the store is asked: the session that is meant, and its token if one was shown. */
type PresentedCredential = { readonly sessionId: string; readonly digest?: Buffer };

// Every request of every user comes through here: what most of them do not need is asked for without a promise.
export function createValidator(deps: ValidatorDeps): SessionValidator {
  const { sessions, tokens, checkIpBinding, clock, keyRing, touchIntervalMs } = deps;

  async function one(question: ValidationRequest, call: CallContext): Promise<ValidationResult> {
    const opened = open(question, call);
    if (opened === undefined) return undefined;
    const [record] = await sessions.readRecords([opened.sessionId], call);
    return judge(question, opened, record, call);
  }

  async function all(questions: readonly ValidationRequest[], call: CallContext): Promise<ValidationResult[]> {
    const opened = questions.map((question) => open(question, call));
    const asked = opened.filter((one) => one !== undefined);
    const records =
      asked.length === 0
        ? []
        : await sessions.readRecords(
            asked.map(({ sessionId }) => sessionId),
            call,
          );
    let next = 0;
    const answers = opened.map((one, i) => one && judge(questions[i]!, one, records[next++], call));
    return answers.some((answer) => answer instanceof Promise)
      ? await Promise.all(answers)
      : (answers as ValidationResult[]);
  }

  /** Undefined for a forged token: it costs no store call. */
  function open(
    { credentialKind: proof, credential: handle }: ValidationRequest,
    call: CallContext,
  ): PresentedCredential | undefined {
    return proof === "token" ? openToken(keyRing(), call.principal.tenant, handle) : { sessionId: handle };
  }

  function judge(
    question: ValidationRequest,
    { sessionId, digest }: PresentedCredential,
    record: SessionRecord | undefined,
    call: CallContext,
  ): ValidationResult | Promise<ValidationResult> {
    if (record === undefined || (record.kind === SESSION_KIND.secure) !== (digest !== undefined)) return undefined;
    const current = digest === undefined || timingSafeEqual(record.secretDigest, digest);
    const comparesIp = question.ipAddress !== "" && record.ipBinding !== IP_BINDING.off;
    if (!current || comparesIp || (question.touch && mayBeSlid(record))) {
      return judgeFurther(question, { sessionId, digest }, record, current, call);
    }
    return valid(record, record.sessionId !== sessionId, false);
  }

  /** The same where the store has to be asked again. */
  async function judgeFurther(
    { credentialKind: proof, touch, ipAddress }: ValidationRequest,
    { sessionId, digest }: PresentedCredential,
    found: SessionRecord,
    current: boolean,
    call: CallContext,
  ): Promise<ValidationResult> {
    // Whether the secret is within its grace, or reused, is decided by the store's clock.
    const shown = current ? found : (await tokens.check(sessionId, digest!, call))?.record;
    if (shown === undefined) return undefined;
    const inGrace = !current || shown.sessionId !== sessionId;
    const ip = await checkIpBinding(shown, ipAddress, call);
    if (ip === "ended") return undefined;
    const record = touch && mayBeSlid(shown) ? await slide(shown, proof, call) : shown;
    return record && valid(record, inGrace, ip === "mismatch");
  }

  /** What was shown in its grace is good for less long than the session, so it is not said how long. */
  function valid(record: SessionRecord, inGrace: boolean, ipMismatch: boolean): ValidSession {
    return { record, ipMismatch, expiresInMs: inGrace ? undefined : expiresInMs(record) };
  }

  function expiresInMs(record: SessionRecord): number | undefined {
    const nowMs = clock.nowMs();
    return nowMs === undefined ? undefined : Math.max(0, Math.floor(record.expiresMs - nowMs));
  }

  /** Our clock only guesses when to ask; the store decides whether the interval has passed. */
  function mayBeSlid(record: SessionRecord): boolean {
    const intervalMs = touchIntervalMs ?? Math.min(record.idleTimeoutMs / 100, 60_000);
    return Date.now() - record.lastAccessedMs >= intervalMs;
  }

  // A session that many requests show at once slides once.
  const sliding = new Map<string, Promise<SessionRecord | undefined>>();

  /** The record after the access; undefined when the session ended in between. */
  function slide(
    record: SessionRecord,
    proof: ValidationRequest["credentialKind"],
    call: CallContext,
  ): Promise<SessionRecord | undefined> {
    const { sessionId } = record;
    const underway = sliding.get(sessionId);
    // It may have failed for a reason of its own caller's.
    if (underway !== undefined) return underway.catch(() => access(sessionId, proof, call));
    const accessing = access(sessionId, proof, call).finally(() => sliding.delete(sessionId));
    sliding.set(sessionId, accessing);
    return accessing;
  }

  async function access(
    sessionId: string,
    proof: ValidationRequest["credentialKind"],
    call: CallContext,
  ): Promise<SessionRecord | undefined> {
    try {
      return (await sessions.get(sessionId, proof, call)).record;
    } catch (error) {
      if (error instanceof SessionError && error.reason === "SESSION_NOT_FOUND") return undefined;
      throw error;
    }
  }

  return { validate: one, validateAll: all };
}
