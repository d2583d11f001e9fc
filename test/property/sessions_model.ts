// The reference model of simple and hash sessions: what the service must answer, without a store, a clock or a race.

export type ModelSession = {
  readonly id: string;
  readonly userId: string;
  readonly kind: "simple" | "hash";
  version: bigint;
  data: Record<string, unknown> | undefined;
  fields: Map<string, string>;
};

/** A failed call by its reason, or the answer. */
export type Outcome<T> = { readonly error: string } | { readonly value: T };

const INT64_MAX = 2n ** 63n - 1n;
const INT64_MIN = -(2n ** 63n);
const FIELDS_MAX = 128;

export class SessionsModel {
  readonly live = new Map<string, ModelSession>();
  readonly #byRequestId = new Map<string, { id: string; kind: ModelSession["kind"] }>();

  create(
    id: string,
    userId: string,
    kind: ModelSession["kind"],
    data: Record<string, unknown> | undefined,
    fields: Record<string, string>,
    requestId: string,
  ): Outcome<ModelSession> {
    const requestKey = `${userId}\n${requestId}`;
    const made = requestId === "" ? undefined : this.#byRequestId.get(requestKey);
    if (made) {
      if (made.kind !== kind) return { error: "REQUEST_ID_REUSED" };
      const session = this.live.get(made.id);
      return session ? { value: session } : { error: "REQUEST_ID_SPENT" };
    }
    const session = { id, userId, kind, version: 1n, data, fields: new Map(Object.entries(fields)) };
    this.live.set(id, session);
    if (requestId !== "") this.#byRequestId.set(requestKey, { id, kind });
    return { value: session };
  }

  get(id: string): Outcome<ModelSession> {
    const session = this.live.get(id);
    return session ? { value: session } : { error: "SESSION_NOT_FOUND" };
  }

  update(
    id: string,
    data: Record<string, unknown> | undefined,
    merge: boolean,
    expectedVersion: bigint,
  ): Outcome<ModelSession> {
    return this.#change(id, expectedVersion, (session) => {
      session.data = merge ? (mergePatchByTheBook(session.data ?? {}, data ?? {}) as Record<string, unknown>) : data;
    });
  }

  setFields(id: string, fields: Record<string, string>, remove: string[], expectedVersion: bigint) {
    return this.#change(
      id,
      expectedVersion,
      (session) => {
        const after = new Map(session.fields);
        for (const [name, value] of Object.entries(fields)) after.set(name, value);
        for (const name of remove) after.delete(name);
        if (after.size > FIELDS_MAX) return "FIELD_LIMIT_REACHED";
        session.fields = after;
        return undefined;
      },
      "hash",
    );
  }

  increment(id: string, field: string, delta: bigint): Outcome<bigint> {
    let value = 0n;
    const outcome = this.#change(
      id,
      0n,
      (session) => {
        const text = session.fields.get(field) ?? "0";
        if (!session.fields.has(field) && session.fields.size >= FIELDS_MAX) return "FIELD_LIMIT_REACHED";
        if (!/^(0|-?[1-9]\d{0,18})$/.test(text)) return "NOT_AN_INTEGER";
        const before = BigInt(text);
        if (before > INT64_MAX || before < INT64_MIN) return "NOT_AN_INTEGER";
        value = before + delta;
        if (value > INT64_MAX || value < INT64_MIN) return "INTEGER_OVERFLOW";
        session.fields.set(field, String(value));
        return undefined;
      },
      "hash",
    );
    return "error" in outcome ? outcome : { value };
  }

  end(id: string): boolean {
    return this.live.delete(id);
  }

  endAllOf(userId: string, exceptId: string): number {
    const ended = this.of(userId).filter((session) => session.id !== exceptId);
    for (const session of ended) this.live.delete(session.id);
    return ended.length;
  }

  of(userId: string): ModelSession[] {
    return [...this.live.values()].filter((session) => session.userId === userId);
  }

  #change(
    id: string,
    expectedVersion: bigint,
    change: (session: ModelSession) => string | void,
    kind?: ModelSession["kind"],
  ): Outcome<ModelSession> {
    const session = this.live.get(id);
    if (!session) return { error: "SESSION_NOT_FOUND" };
    if (kind && session.kind !== kind) return { error: "NOT_A_HASH_SESSION" };
    if (expectedVersion !== 0n && expectedVersion !== session.version) return { error: "VERSION_MISMATCH" };
    const fault = change(session);
    if (fault) return { error: fault };
    session.version += 1n;
    return { value: session };
  }
}

// The pseudo code of RFC 7396 section 2, word for word, on Maps so that no member name is special.
function mergePatchByTheBook(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch;
  const result = new Map(Object.entries(isObject(target) ? target : {}));
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) result.delete(name);
    else result.set(name, mergePatchByTheBook(result.get(name), value));
  }
  return Object.fromEntries(result);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
