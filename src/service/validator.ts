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
    return verdictOn(await sessions.findById(sessionId, call), "id", touch, ipAddress, call);
  }

  async function byToken(token: string, touch: boolean, ipAddress: string, call: CallContext) {
    return verdictOn(await findByToken(token, call), "token", touch, ipAddress, call);
  }

  async function verdictOn(
    record: SessionRecord | undefined,
    proof: "id" | "token",
    touch: boolean,
    ipAddress: string,
    call: CallContext,
  ): Promise<Validation> {
    if (record === undefined) return INVALID;
    const ip = await checkIpBinding(record, ipAddress, call);
    if (ip === "ended") return INVALID;
    const touched = touch ? await slide(record, proof, call) : record;
    if (touched === undefined) return INVALID;
    const nowMs = clock.nowMs();
    return {
      verdict: Verdict.VALID,
      session: sessionMessage(touched),
      ipMismatch: ip === "mismatch",
      expiresIn: nowMs === undefined ? undefined : durationFromMs(Math.max(0, Math.floor(touched.expiresMs - nowMs))),
    };
  }

  /** The session of a token that was minted for this tenant and is honoured now; a forged one costs no store call. */
  async function findByToken(token: string, call: CallContext): Promise<SessionRecord | undefined> {
    const opened = openToken(keyRing(), call.caller.tenant, token);
    const record = opened && (await sessions.find(opened.sessionId, call));
    if (record?.secretDigest === undefined) return undefined;
    if (timingSafeEqual(record.secretDigest, opened!.digest)) return record;
    // Whether the secret is within its grace, or reused, is decided by the store's clock.
    return (await tokens.check(opened!.sessionId, opened!.digest, call))?.record;
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
