// "Is it valid?", for all methods that ask it: by session_id or by token.

import { timingSafeEqual } from "node:crypto";
import { durationFromMs, type Duration } from "@bufbuild/protobuf/wkt";
import { Verdict, type Session } from "../../gen/session/v1/session_pb.ts";
import type { CallContext } from "../domain/call.ts";
import { SessionError } from "../domain/errors.ts";
import { openToken, type TokenKeyRing } from "../domain/token.ts";
import type { StoreClock } from "../store/clock.ts";
import type { SessionRecord } from "../store/record.ts";
import type { SessionStore } from "../store/sessions.ts";
import type { TokenStore } from "../store/tokens.ts";
import type { IpBindingCheck } from "./ip_binding.ts";
import { sessionMessage } from "./session_message.ts";

/** The answer for every dead, unknown, malformed or foreign session: always the same bytes. */
const INVALID: Validation = { verdict: Verdict.INVALID };

export type Validation = {
  readonly verdict: Verdict;
  readonly session?: Session;
  readonly ipMismatch?: boolean;
  readonly expiresIn?: Duration;
};

/** A live session, and whether what was shown for it is a rotated-away token or a former id in its grace. */
type Found = { readonly record: SessionRecord; readonly inGrace: boolean };

type ValidatorDeps = {
  readonly sessions: SessionStore;
  readonly tokens: TokenStore;
  readonly checkIpBinding: IpBindingCheck;
  readonly clock: StoreClock;
  readonly keyRing: () => TokenKeyRing;
  /** Accesses closer together than this slide once; undefined: idle/100, at most 60 s. */
  readonly touchIntervalMs: number | undefined;
};

export type Validator = ReturnType<typeof createValidator>;

export function createValidator(deps: ValidatorDeps) {
  const { sessions, tokens, checkIpBinding, clock, keyRing, touchIntervalMs } = deps;

  /** Of a secure session the id opens nothing. */
  async function byId(sessionId: string, touch: boolean, ipAddress: string, call: CallContext) {
    const record = await sessions.findById(sessionId, call);
    return verdictOn(record && { record, inGrace: record.sessionId !== sessionId }, "id", touch, ipAddress, call);
  }

  async function byToken(token: string, touch: boolean, ipAddress: string, call: CallContext) {
    return verdictOn(await findByToken(token, call), "token", touch, ipAddress, call);
  }

  async function verdictOn(
    found: Found | undefined,
    proof: "id" | "token",
    touch: boolean,
    ipAddress: string,
    call: CallContext,
  ): Promise<Validation> {
    if (found === undefined) return INVALID;
    const ip = await checkIpBinding(found.record, ipAddress, call);
    if (ip === "ended") return INVALID;
    const record = touch ? await slide(found.record, proof, call) : found.record;
    if (record === undefined) return INVALID;
    const session = sessionMessage(record);
    return {
      verdict: Verdict.VALID,
      session,
      ipMismatch: ip === "mismatch",
      expiresIn: expiresIn(record, found.inGrace),
    };
  }

  /** What was shown in its grace is good for less long than the session, so nothing is said then. */
  function expiresIn(record: SessionRecord, inGrace: boolean): Duration | undefined {
    const nowMs = clock.nowMs();
    if (nowMs === undefined || inGrace) return undefined;
    return durationFromMs(Math.max(0, Math.floor(record.expiresMs - nowMs)));
  }

  /** The session of a token that was minted for this tenant and is honoured now; a forged one costs no store call. */
  async function findByToken(token: string, call: CallContext): Promise<Found | undefined> {
    const opened = openToken(keyRing(), call.caller.tenant, token);
    const record = opened && (await sessions.find(opened.sessionId, call));
    if (record?.secretDigest === undefined) return undefined;
    if (timingSafeEqual(record.secretDigest, opened!.digest)) {
      return { record, inGrace: record.sessionId !== opened!.sessionId };
    }
    // Whether the secret is within its grace, or reused, is decided by the store's clock.
    const checked = await tokens.check(opened!.sessionId, opened!.digest, call);
    return checked && { record: checked.record, inGrace: true };
  }

  /** The record after the access; undefined when the session ended in between. */
  async function slide(
    record: SessionRecord,
    proof: "id" | "token",
    call: CallContext,
  ): Promise<SessionRecord | undefined> {
    // Our clock only guesses when to ask; the store decides whether the interval has passed.
    const intervalMs = touchIntervalMs ?? Math.min(record.idleTimeoutMs / 100, 60_000);
    if (Date.now() - record.lastAccessedMs < intervalMs) return record;
    try {
      return (await sessions.get(record.sessionId, proof, call)).record;
    } catch (error) {
      if (error instanceof SessionError && error.reason === "SESSION_NOT_FOUND") return undefined;
      throw error;
    }
  }

  return { byId, byToken };
}
