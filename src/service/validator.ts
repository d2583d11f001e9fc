// "Is it valid?", for all methods that ask it: by session_id or by token.

import { timingSafeEqual } from "node:crypto";
import type { CallContext } from "../domain/call.ts";
import { SessionError } from "../domain/errors.ts";
import { openToken, type TokenKeyRing } from "../domain/token.ts";
import type { StoreClock } from "../store/clock.ts";
import { IP_BINDING, SESSION_KIND, type SessionRecord } from "../store/record.ts";
import type { SessionStore } from "../store/sessions.ts";
import type { TokenStore } from "../store/tokens.ts";
import type { IpBindingCheck } from "./ip_binding.ts";

/** What is presented, and how it is to be judged. */
export type Question = {
  /** A session_id opens no secure session, a token only that. */
  readonly proof: "id" | "token";
  readonly handle: string;
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
export type Validation = ValidSession | undefined;

type ValidatorDeps = {
  readonly sessions: SessionStore;
  readonly tokens: TokenStore;
  readonly checkIpBinding: IpBindingCheck;
  readonly clock: StoreClock;
  readonly keyRing: () => TokenKeyRing;
  /** Accesses closer together than this slide once; undefined: idle/100, at most 60 s. */
  readonly touchIntervalMs: number | undefined;
};

/** @throws SessionError when it cannot be told whether the session is valid. */
export type Validate = (question: Question, call: CallContext) => Promise<Validation>;

// Every request of every user comes through here: what most of them do not need is asked for without a promise.
export function createValidator(deps: ValidatorDeps): Validate {
  const { sessions, tokens, checkIpBinding, clock, keyRing, touchIntervalMs } = deps;

  async function validate({ proof, handle, touch, ipAddress }: Question, call: CallContext): Promise<Validation> {
    const opened = proof === "token" ? openToken(keyRing(), call.caller.tenant, handle) : undefined;
    // A forged token costs no store call.
    if (proof === "token" && opened === undefined) return undefined;
    const sessionId = opened === undefined ? handle : opened.sessionId;
    let record = await sessions.find(sessionId, call);
    if (record === undefined || (record.kind === SESSION_KIND.secure) !== (proof === "token")) return undefined;
    let inGrace = record.sessionId !== sessionId;
    if (opened !== undefined && !timingSafeEqual(record.secretDigest, opened.digest)) {
      // Whether the secret is within its grace, or reused, is decided by the store's clock.
      const checked = await tokens.check(sessionId, opened.digest, call);
      if (checked === undefined) return undefined;
      record = checked.record;
      inGrace = true;
    }
    let ipMismatch = false;
    if (ipAddress !== "" && record.ipBinding !== IP_BINDING.off) {
      const ip = await checkIpBinding(record, ipAddress, call);
      if (ip === "ended") return undefined;
      ipMismatch = ip === "mismatch";
    }
    if (touch && mayBeSlid(record)) {
      record = await slide(record, proof, call);
      if (record === undefined) return undefined;
    }
    // What was shown in its grace is good for less long than the session, so nothing is said then.
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

  /** The record after the access; undefined when the session ended in between. */
  async function slide(
    record: SessionRecord,
    proof: Question["proof"],
    call: CallContext,
  ): Promise<SessionRecord | undefined> {
    try {
      return (await sessions.get(record.sessionId, proof, call)).record;
    } catch (error) {
      if (error instanceof SessionError && error.reason === "SESSION_NOT_FOUND") return undefined;
      throw error;
    }
  }

  return validate;
}
