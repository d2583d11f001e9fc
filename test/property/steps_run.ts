// A run of random steps: what all steps share, and the comparison of a response with the model's.

import assert from "node:assert/strict";
import fc from "fast-check";
import { timestampFromMs, timestampMs, type Timestamp } from "@bufbuild/protobuf/wkt";
import { CredentialKind, type Session } from "../../gen/session/v1/session_pb.ts";
import type { Authorities } from "../helpers/authority.ts";
import { CallError, type AuthorityClient } from "../helpers/grpc_client.ts";
import { SessionsModel } from "./sessions_model.ts";
import { type Age, type Attempt, type ModelSession, type ModelToken, type Outcome } from "./sessions_model_values.ts";

/** Calls the service and the model, and compares their responses. */
export type Step = (run: Run) => Promise<void>;

export type Token = ModelToken & { readonly token: string };

/** The actor that every end names. */
export const ACTOR = "somebody";
/** A recent rotation stays recent for a minute; a retry is accepted for ten. */
const AGE_MS: Readonly<Record<Age, number>> = { recent: -60_000, late: 2_000, expired: 660_000 };
const UNKNOWN_ID = "A".repeat(28);
const UNKNOWN_TOKEN: Token = { token: `sat1_${"A".repeat(116)}`, id: UNKNOWN_ID, secret: -1 };

/** The model, the ids and tokens that the service has returned so far (dead or not), and names that no other run has. */
export class Run {
  readonly model = new SessionsModel();
  readonly ids: string[] = [];
  readonly tokens: Token[] = [];
  /** Expired sessions, which the sweep may not have recorded yet. */
  readonly unswept = new Set<string>();
  readonly authorities: Authorities;
  readonly #name: string;
  /** The start of each step by the store's clock, later than everything in the step before. */
  readonly #clockMs: number[] = [];
  /** When the sessions were created, by all their ids. */
  readonly #createdMs = new Map<string, number>();

  constructor(authorities: Authorities, name: string) {
    this.authorities = authorities;
    this.#name = name;
  }

  async take(step: Step): Promise<void> {
    this.#clockMs.push(await this.authorities.nextMs());
    await step(this);
    this.model.step++;
  }

  /** A client of another instance in each step. */
  get client(): AuthorityClient {
    const { clients } = this.authorities;
    return clients[this.model.step % clients.length]!;
  }

  /** No user for 2: an anonymous session. */
  user = (n: number) => (n === 2 ? "" : `${this.#name}/user ${n}`);
  /** Anonymous sessions of all runs share their request ids. */
  requestId = (id: string) => (id === "" ? "" : `${this.#name}/${id}`);
  device = (n: number) => `${this.#name}/device:${n}`;
  id = (n: number) => this.#pick(this.ids, n, (id) => id) ?? UNKNOWN_ID;
  token = (n: number) => this.#pick(this.tokens, n, ({ id }) => id) ?? UNKNOWN_TOKEN;

  /** Picks from all, the newest first; for an even number, from those that still have a live session, if there are any. */
  #pick<T>(all: readonly T[], n: number, idOf: (item: T) => string): T | undefined {
    const live = n % 2 === 0 ? all.filter((item) => this.model.find(idOf(item)) !== undefined) : [];
    const from = live.length > 0 ? live : all;
    return from.at(-1 - ((n >> 1) % Math.max(1, from.length)));
  }

  /** Ends the graces of a user's sessions, by a write to the store. */
  async passGrace(userId: string): Promise<void> {
    for (const id of this.model.passGrace(userId)) await this.authorities.passGrace(id);
  }

  /** Makes the last rotation under an id, or its regeneration, as old as the attempt assumes, by a write to the store. */
  async ageRotation(id: string, { age }: Attempt): Promise<void> {
    await this.authorities.ageRotation(id, AGE_MS[age]);
  }

  /** The number of the next secret that the service makes. */
  get nextSecret(): number {
    return this.tokens.length;
  }

  /** Notes the id of a session that the service returned, and its token if there is one. A retry returns an earlier one. */
  noteSession({ sessionId, createTime }: Session, token: string): void {
    this.#createdMs.set(sessionId, timestampMs(createTime!));
    if (!this.ids.includes(sessionId)) this.ids.push(sessionId);
    if (token === "") return;
    const { secret } = this.model.find(sessionId)!;
    const same = this.tokens.filter((each) => each.id === sessionId && each.secret === secret);
    for (const each of same) assert.equal(token, each.token, "a retry returned another token");
    if (same.length === 0) this.tokens.push({ token, id: sessionId, secret });
  }

  /** Returns the session's version for -1, and any other number as it is. 0 means that it is not checked. */
  expectedVersion(id: string, version: number): bigint {
    return version < 0 ? (this.model.find(id)?.version ?? 1n) : BigInt(version);
  }

  /** Returns the instant so long after the creation of a session, or any instant for an id that no session has. */
  afterCreation(id: string, ms: number): Timestamp {
    return timestampFromMs((this.#createdMs.get(id) ?? this.#clockMs[0]!) + ms);
  }

  instant(step: number): Timestamp {
    return timestampFromMs(this.#clockMs[step]!);
  }

  assertSame(actual: Outcome<Session>, expected: Outcome<ModelSession>, withFields = true): void {
    if ("error" in expected || "error" in actual) return assert.deepEqual(actual, expected);
    const [session, model] = [actual.value, expected.value];
    assert.equal(session.sessionId, model.id);
    assert.equal(session.userId, model.userId);
    assert.equal(session.version, model.version);
    assert.equal(session.device?.deviceId ?? "", model.device);
    assert.equal(session.device?.type ?? 0, model.deviceType);
    assert.equal(session.device?.name ?? "", model.deviceName);
    assert.deepEqual(session.data, model.data);
    assert.deepEqual(session.labels, model.labels);
    assert.equal(session.credentialKind, model.kind === "secure" ? CredentialKind.TOKEN : CredentialKind.SESSION_ID);
    if (withFields) assert.deepEqual(new Map(Object.entries(session.fields)), model.fields);
    const created = this.#assertInStep("create_time", session.createTime!, model.created);
    const accessed = this.#assertInStep("last_access_time", session.lastAccessTime!, model.accessed);
    const absolute = created + model.absoluteMs;
    assert.equal(timestampMs(session.absoluteExpireTime!), absolute);
    assert.equal(timestampMs(session.expireTime!), Math.min(accessed + model.idleMs, absolute));
    assert.equal(session.authentication?.level ?? 0, model.level);
    if (model.level > 0) this.#assertInStep("authentication.time", session.authentication!.time!, model.authenticated!);
  }

  #assertInStep(what: string, at: Timestamp, step: number): number {
    const [atMs, fromMs, untilMs] = [timestampMs(at), this.#clockMs[step]!, this.#clockMs[step + 1] ?? Infinity];
    assert.ok(fromMs <= atMs && atMs < untilMs, `${what} is ${atMs}, step ${step} went from ${fromMs} to ${untilMs}`);
    return atMs;
  }
}

/** Makes a step with random parameters; a counterexample shows its name and parameters. */
export function stepOf<P>(name: string, parameters: fc.Arbitrary<P>, take: (run: Run, parameters: P) => Promise<void>) {
  return parameters.map((p): Step => {
    const step = (run: Run) => take(run, p);
    return Object.assign(step, { [fc.toStringMethod]: () => `${name} ${fc.stringify(p)}` });
  });
}

/** Returns the name of an enum's value, in lower case. */
export function nameOf(names: Readonly<Record<string, number>>, value: number): string {
  return Object.keys(names)
    .find((name) => names[name] === value)!
    .toLowerCase();
}

/** Returns a call's response or the reason of its failure; a failure without a reason fails the test. */
export async function outcomeOf<T>(call: Promise<T>): Promise<Outcome<T>> {
  try {
    return { value: await call };
  } catch (error) {
    if (error instanceof CallError && error.reason) return { error: error.reason };
    throw error;
  }
}

export const sessionOf = async (response: Promise<{ session?: Session }>) => (await response).session!;

/** Returns the items of all pages of a list. */
export async function allPages<T>(
  page: (pageToken: string) => Promise<{ nextPageToken: string; items: readonly T[] }>,
): Promise<T[]> {
  const all: T[] = [];
  for (let pageToken = ""; ;) {
    const { items, nextPageToken } = await page(pageToken);
    all.push(...items);
    if (nextPageToken === "") return all;
    pageToken = nextPageToken;
  }
}

/** A value one time in `times`, otherwise undefined. */
export function sometimes<T>(times: number, value: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> {
  return fc.oneof({ weight: times - 1, arbitrary: fc.constant(undefined) }, value);
}

/** The request id of a rotation or regeneration, and the age of the one before it. */
export const attempt: fc.Arbitrary<Attempt> = fc.record({
  requestId: fc.constantFrom("", "", "q1", "q1", "q2"),
  age: fc.constantFrom("recent", "late", "late", "expired"),
});
/** Picks an id or a token. */
export const which = fc.nat(11);
/** Picks a user or a device. */
export const two = fc.nat(1);
/** Picks a user, or none. */
export const userOrNone = fc.constantFrom(0, 0, 1, 1, 2);
/** Picks the user to whom the session must belong: mostly any. */
export const anyUser = sometimes(3, two);
/** Returns the picked user of a run; empty for any. */
export const userOf = (run: Run, n: number | undefined) => (n === undefined ? "" : run.user(n));
