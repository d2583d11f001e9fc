// The reference model of sessions of every variant: what the service must answer, without a store, a clock or a race.
// Its time is the number of the step.

import {
  incremented,
  mergePatchByTheBook,
  type Data,
  type Explained,
  type Kind,
  type Login,
  type ModelSession,
  type ModelToken,
  type Outcome,
} from "./sessions_model_values.ts";

const NOT_FOUND = { error: "SESSION_NOT_FOUND" };
const FIELDS_MAX = 128;

export class SessionsModel {
  step = 0;
  readonly #live = new Map<string, ModelSession>();
  /** Ids that were regenerated with a grace that lasts. */
  readonly #forwards = new Map<string, string>();
  readonly #ended = new Map<string, { userId: string; reason: string }>();
  readonly #made = new Map<string, ModelToken & { kind: Kind }>();
  readonly #lastOn = new Map<string, ModelSession>();
  readonly #revoked = new Map<string, number>();
  readonly #audit: { userId: string; entry: string }[] = [];

  /** The live session of an id, or of the id before it while its grace lasts. */
  find(id: string): ModelSession | undefined {
    const next = this.#forwards.get(id);
    return next === undefined ? this.#live.get(id) : this.find(next);
  }

  of(userId: string): ModelSession[] {
    return [...this.#live.values()].filter((session) => session.userId === userId);
  }

  /** `id` is what the service calls the session if it made one. */
  create(id: string, login: Login): Outcome<ModelSession> {
    const { userId, kind, device } = login;
    const requestKey = `${userId}\n${login.requestId}`;
    const made = login.requestId === "" ? undefined : this.#made.get(requestKey);
    if (made) return this.#retry(made, login);
    if (login.authenticated !== undefined && login.authenticated <= (this.#revoked.get(userId) ?? -1)) {
      return { error: "REVOKED_SINCE_LOGIN" };
    }
    const replaced = this.#onDevice(userId, device);
    const others = this.of(userId).filter((session) => session !== replaced);
    const excess = login.limit ? Math.max(0, others.length + 1 - login.limit.max) : 0;
    if (excess > 0 && !login.limit!.evict) return { error: "SESSION_LIMIT_REACHED" };
    const oldest = others.toSorted((a, b) => a.accessed - b.accessed).slice(0, excess);
    for (const session of [...(replaced ? [replaced] : []), ...oldest]) this.#end(session, "evicted");

    if (this.#live.has(id) || this.#ended.has(id)) throw new Error(`${id} is used twice`);
    const session: ModelSession = {
      ...{ id, userId, kind, device, version: 1n, idleMs: login.idleMs, data: login.data, secret: login.secret },
      fields: new Map(Object.entries(login.fields)),
      ...{ graces: new Set<number>(), voids: new Set<number>(), created: this.step, accessed: this.step },
    };
    this.#live.set(id, session);
    if (login.requestId !== "") this.#made.set(requestKey, { id, secret: login.secret, kind });
    if (kind === "device") this.#lastOn.set(device, session);
    this.#tell(session, "created");
    return { value: session };
  }

  #retry(made: ModelToken & { kind: Kind }, { kind, secret }: Login): Outcome<ModelSession> {
    if (made.kind !== kind) return { error: "REQUEST_ID_REUSED" };
    const session = this.find(made.id);
    if (!session) return { error: "REQUEST_ID_SPENT" };
    // The answer with the token before was lost, so nobody may hold it.
    return kind === "secure" ? this.#replaceSecret(session, secret, undefined) : { value: session };
  }

  get(id: string): Outcome<ModelSession> {
    return this.validate(id, true);
  }

  validate(id: string, touch: boolean): Outcome<ModelSession> {
    const session = this.find(id);
    if (!session || session.kind === "secure") return NOT_FOUND;
    return touch ? this.#touch(session) : { value: session };
  }

  update(id: string, data: Data, merge: boolean, expectedVersion: bigint): Outcome<ModelSession> {
    return this.#change(this.find(id), expectedVersion, (session) => {
      session.data = merge ? (mergePatchByTheBook(session.data ?? {}, data ?? {}) as Data) : data;
    });
  }

  fields(id: string): Outcome<ModelSession> {
    const session = this.find(id);
    return session && session.kind !== "hash" ? { error: "NOT_A_HASH_SESSION" } : this.#touch(session);
  }

  setFields(id: string, fields: Record<string, string>, remove: string[], version: bigint): Outcome<ModelSession> {
    return this.#change(
      this.find(id),
      version,
      (session) => {
        const after = new Map([...session.fields, ...Object.entries(fields)]);
        for (const name of remove) after.delete(name);
        if (after.size > FIELDS_MAX) return "FIELD_LIMIT_REACHED";
        session.fields = after;
        return undefined;
      },
      true,
    );
  }

  increment(id: string, field: string, delta: bigint): Outcome<bigint> {
    const outcome = this.#change(
      this.find(id),
      0n,
      ({ fields }) => {
        if (!fields.has(field) && fields.size >= FIELDS_MAX) return "FIELD_LIMIT_REACHED";
        const value = incremented(fields.get(field) ?? "0", delta);
        if (typeof value === "string") return value;
        fields.set(field, String(value));
        return undefined;
      },
      true,
    );
    return "error" in outcome ? outcome : { value: BigInt(outcome.value.fields.get(field)!) };
  }

  validateToken(token: ModelToken, touch: boolean): Outcome<ModelSession> {
    const { session, proof } = this.#present(token);
    if (proof !== "current" && proof !== "grace") return NOT_FOUND;
    return touch ? this.#touch(session) : { value: session! };
  }

  rotate(token: ModelToken, secret: number): Outcome<ModelSession> {
    const { session, proof } = this.#present(token);
    if (proof === "grace") return { error: "ROTATED_CONCURRENTLY" };
    if (proof !== "current") return NOT_FOUND;
    return this.#replaceSecret(session!, secret, session!.secret);
  }

  revokeToken(token: ModelToken): boolean {
    const { session, proof } = this.#present(token);
    if (proof === "current" || proof === "grace") this.#end(session!, "revoked");
    return proof !== "none";
  }

  /** Gives a session a new id, whoever shows its id, or its token when it is a secure one. */
  regenerate(shown: string | ModelToken, newId: string, grace: boolean, secret: number): Outcome<ModelSession> {
    const byToken = typeof shown !== "string";
    const session = this.#live.get(byToken ? shown.id : shown);
    if (!session || (session.kind === "secure") !== byToken) return NOT_FOUND;
    if (byToken && this.#present(shown).proof !== "current") return NOT_FOUND;
    this.#live.delete(session.id);
    this.#ended.set(session.id, { userId: session.userId, reason: "regenerated" });
    if (grace) this.#forwards.set(session.id, newId);
    session.id = newId;
    this.#live.set(newId, session);
    if (byToken && grace) session.graces.add(session.secret);
    if (byToken) session.secret = secret;
    session.version += 1n;
    this.#tell(session, "regenerated");
    return this.#touch(session);
  }

  /** Ends the graces of a user's sessions; the ids whose records say so. */
  passGrace(userId: string): string[] {
    const sessions = this.of(userId);
    const before = [...this.#forwards.keys()].filter((id) => sessions.includes(this.find(id)!));
    for (const id of before) this.#forwards.delete(id);
    for (const session of sessions) session.graces.clear();
    return [...sessions.map(({ id }) => id), ...before];
  }

  /** The session on a device: of a user, or of whoever logged in there last. */
  getDevice(device: string, userId?: string): Outcome<ModelSession> {
    if (userId !== undefined) return this.#touch(this.#onDevice(userId, device));
    const last = this.#lastOn.get(device);
    return this.#touch(last && this.#live.get(last.id));
  }

  revokeDevice(userId: string, device: string): boolean {
    const session = this.#onDevice(userId, device);
    if (session) this.#end(session, "device_revoked");
    return session !== undefined;
  }

  end(id: string, reason: "deleted" | "revoked" | "expired"): ModelSession | undefined {
    const session = this.find(id);
    if (session) this.#end(session, reason);
    return session;
  }

  endAllOf(userId: string, exceptId: string): number {
    const kept = this.find(exceptId);
    const ended = this.of(userId).filter((session) => session !== kept);
    for (const session of ended) this.#end(session, "user_revoked", false);
    this.#revoked.set(userId, this.step);
    this.#audit.push({ userId, entry: "user_revoked  " });
    return ended.length;
  }

  explain(id: string): Explained {
    const session = this.#live.get(id);
    if (session) return { state: "alive", userId: session.userId, reason: "unspecified" };
    const end = this.#ended.get(id);
    return end ? { state: "ended", ...end } : { state: "unknown", userId: "", reason: "unspecified" };
  }

  /** `<event> <session_id> <device>` of each mutation, oldest first. */
  audit(userId: string): string[] {
    return this.#audit.filter((told) => told.userId === userId).map((told) => told.entry);
  }

  #onDevice(userId: string, device: string): ModelSession | undefined {
    return this.of(userId).find((session) => session.kind === "device" && session.device === device);
  }

  /** What a token proves now. A secret that is neither the current one nor in its grace ends the session. */
  #present({ id, secret }: ModelToken): { session?: ModelSession; proof: "current" | "grace" | "reused" | "none" } {
    const session = this.find(id);
    if (!session) return { proof: "none" };
    if (secret === session.secret) return { session, proof: "current" };
    if (session.voids.has(secret)) return { proof: "none" };
    if (session.graces.has(secret)) return { session, proof: "grace" };
    this.#end(session, "token_reused");
    return { proof: "reused" };
  }

  #replaceSecret(session: ModelSession, secret: number, retired: number | undefined) {
    if (retired === undefined) session.voids.add(session.secret);
    else session.graces.add(retired);
    session.secret = secret;
    session.version += 1n;
    this.#tell(session, "rotated");
    return this.#touch(session);
  }

  #change(
    session: ModelSession | undefined,
    expectedVersion: bigint,
    change: (session: ModelSession) => string | void,
    hashOnly = false,
  ): Outcome<ModelSession> {
    if (!session) return NOT_FOUND;
    if (hashOnly && session.kind !== "hash") return { error: "NOT_A_HASH_SESSION" };
    if (expectedVersion !== 0n && expectedVersion !== session.version) return { error: "VERSION_MISMATCH" };
    const fault = change(session);
    if (fault) return { error: fault };
    session.version += 1n;
    this.#tell(session, "data_updated");
    return this.#touch(session);
  }

  #touch(session: ModelSession | undefined): Outcome<ModelSession> {
    if (!session) return NOT_FOUND;
    session.accessed = this.step;
    return { value: session };
  }

  #end(session: ModelSession, reason: string, told = true): void {
    this.#live.delete(session.id);
    this.#ended.set(session.id, { userId: session.userId, reason });
    if (told) this.#tell(session, reason);
  }

  #tell({ userId, id, device }: ModelSession, event: string): void {
    this.#audit.push({ userId, entry: `${event} ${id} ${device}` });
  }
}
