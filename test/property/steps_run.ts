// A run of random steps: what all steps share, and how an answer is compared with the model's.

import assert from "node:assert/strict";
import fc from "fast-check";
import { timestampFromMs, timestampMs, type Timestamp } from "@bufbuild/protobuf/wkt";
import type { Session } from "../../gen/session/v1/session_pb.ts";
import type { Authorities } from "../helpers/authority.ts";
import { CallError, type AuthorityClient } from "../helpers/grpc_client.ts";
import { SessionsModel } from "./sessions_model.ts";
import type { ModelSession, ModelToken, Outcome } from "./sessions_model_values.ts";

/** One step: does the same to the model and the service, and compares. */
export type Step = (run: Run) => Promise<void>;

export type Token = ModelToken & { readonly token: string };

export const DAY_MS = 86_400_000;
const UNKNOWN_ID = "A".repeat(28);
const UNKNOWN_TOKEN: Token = { token: `sat1_${"A".repeat(116)}`, id: UNKNOWN_ID, secret: -1 };

/** The model, what the service has handed out so far (dead or not), and names that no other run has. */
export class Run {
  readonly model = new SessionsModel();
  readonly ids: string[] = [];
  readonly tokens: Token[] = [];
  /** Ended by their timeout; the sweep may have told of them, or not yet. */
  readonly unswept = new Set<string>();
  readonly authorities: Authorities;
  readonly #name: string;
  /** When each step began, by the store's clock: later than everything in the step before. */
  readonly #clockMs: number[] = [];

  constructor(authorities: Authorities, name: string) {
    this.authorities = authorities;
    this.#name = name;
  }

  async take(step: Step): Promise<void> {
    this.#clockMs.push(await this.authorities.nextMs());
    await step(this);
    this.model.step++;
  }

  /** Another instance from step to step. */
  get client(): AuthorityClient {
    const { clients } = this.authorities;
    return clients[this.model.step % clients.length]!;
  }

  user = (n: number) => `${this.#name}/user ${n}`;
  device = (n: number) => `${this.#name}/device:${n}`;
  id = (n: number) => this.#pick(this.ids, n, (id) => id) ?? UNKNOWN_ID;
  token = (n: number) => this.#pick(this.tokens, n, ({ id }) => id) ?? UNKNOWN_TOKEN;

  /** One of those handed out, the newest first; for an even number, of those that still lead to a session, if any do. */
  #pick<T>(all: readonly T[], n: number, idOf: (item: T) => string): T | undefined {
    const live = n % 2 === 0 ? all.filter((item) => this.model.find(idOf(item)) !== undefined) : [];
    const from = live.length > 0 ? live : all;
    return from.at(-1 - ((n >> 1) % Math.max(1, from.length)));
  }

  /** Lets the graces of a user's sessions pass: into the store it is written, since no test waits for a clock. */
  async passGrace(userId: string): Promise<void> {
    for (const id of this.model.passGrace(userId)) await this.authorities.passGrace(id);
  }

  /** The number of the secret that is made next. */
  get nextSecret(): number {
    return this.tokens.length;
  }

  /** Takes note of a session that the service has answered, with its new token if it has one. */
  noteAnswer({ sessionId }: Session, token: string): void {
    if (!this.ids.includes(sessionId)) this.ids.push(sessionId);
    if (token !== "") this.tokens.push({ token, id: sessionId, secret: this.nextSecret });
  }

  /** 0: not checked; -1: the version that is right; else as given. */
  expectedVersion(id: string, version: number): bigint {
    return version < 0 ? (this.model.find(id)?.version ?? 1n) : BigInt(version);
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
    assert.deepEqual(session.data, model.data);
    if (withFields) assert.deepEqual(new Map(Object.entries(session.fields)), model.fields);
    const created = this.#assertInStep("created_at", session.createdAt!, model.created);
    const accessed = this.#assertInStep("last_accessed_at", session.lastAccessedAt!, model.accessed);
    assert.equal(timestampMs(session.absoluteExpiresAt!), created + 30 * DAY_MS);
    assert.equal(timestampMs(session.expiresAt!), accessed + model.idleMs);
  }

  #assertInStep(what: string, at: Timestamp, step: number): number {
    const [atMs, fromMs, untilMs] = [timestampMs(at), this.#clockMs[step]!, this.#clockMs[step + 1] ?? Infinity];
    assert.ok(fromMs <= atMs && atMs < untilMs, `${what} is ${atMs}, step ${step} went from ${fromMs} to ${untilMs}`);
    return atMs;
  }
}

/** A step with random parameters, which a counterexample shows by its name. */
export function stepOf<P>(name: string, parameters: fc.Arbitrary<P>, take: (run: Run, parameters: P) => Promise<void>) {
  return parameters.map((p): Step => {
    const step = (run: Run) => take(run, p);
    return Object.assign(step, { [fc.toStringMethod]: () => `${name} ${fc.stringify(p)}` });
  });
}

/** The name of an enum's value, in lower case. */
export function nameOf(names: Readonly<Record<string, number>>, value: number): string {
  return Object.keys(names)
    .find((name) => names[name] === value)!
    .toLowerCase();
}

/** What a call came to; a failure without a reason of the contract fails the test. */
export async function outcomeOf<T>(call: Promise<T>): Promise<Outcome<T>> {
  try {
    return { value: await call };
  } catch (error) {
    if (error instanceof CallError && error.reason) return { error: error.reason };
    throw error;
  }
}

export const sessionOf = async (answer: Promise<{ session?: Session }>) => (await answer).session!;

/** All pages of a list. */
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

/** Undefined, but one time in `times`. */
export function sometimes<T>(times: number, value: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> {
  return fc.oneof({ weight: times - 1, arbitrary: fc.constant(undefined) }, value);
}

/** Which of the ids or tokens, which of the users and devices. */
export const which = fc.nat(11);
export const two = fc.nat(1);
