// The reference model of sessions of every variant: the responses that the service must give. It has no store, no clock and no
// concurrency; its time is the number of the step.

import { LimitPer } from "../../gen/session/v1/session_pb.ts";
import {
  DAY_MS,
  incremented,
  LIMIT_LABEL,
  rfc7396MergePatch,
  type Admission,
  type Attempt,
  type Data,
  type Explained,
  type Kind,
  type Login,
  type ModelSession,
  type ModelToken,
  type Outcome,
  type Update,
} from "./sessions_model_values.ts";

const NOT_FOUND = { error: "SESSION_NOT_FOUND" };
const FIELDS_MAX = 128;
const DEFAULT_ABSOLUTE_MS = 30 * DAY_MS;

/** Returns whether a session counts against the limit of a login. */
function isCounted(other: ModelSession, { limit, deviceType, labels }: Admission): boolean {
  if (limit?.per === LimitPer.DEVICE_TYPE) return other.deviceType === deviceType;
  return limit?.per !== LimitPer.LABEL || other.labels[LIMIT_LABEL] === labels[LIMIT_LABEL];
}

/** A presented token's session, and whether its secret is the current one, within its grace, reused, or of no session. */
type Presented = { readonly session?: ModelSession; readonly secret: "current" | "grace" | "reused" | "none" };

type Regenerated = {
  readonly requestId: string;
  readonly newId: string;
  readonly from: number;
  readonly to: number;
  /** True if it made an anonymous session that of a user. */
  readonly isLogin: boolean;
};

export class SessionsModel {
  step = 0;
  readonly #live = new Map<string, ModelSession>();
  /** Former ids within their grace, and the ids that replaced them. */
  readonly #forwards = new Map<string, string>();
  readonly #ended = new Map<string, { userId: string; reason: string }>();
  /** By former id: the regenerations with a request id, and the secrets that they replaced and made. */
  readonly #regenerations = new Map<string, Regenerated>();
  /** By user and request id. */
  readonly #createdByRequest = new Map<string, ModelToken & { kind: Kind }>();
  /** The session of the last login on each device, of any user. */
  readonly #lastOnDevice = new Map<string, ModelSession>();
  /** The step of each user's last DeleteUserSessions. */
  readonly #revokedAt = new Map<string, number>();
  readonly #audit: { userId: string; entry: string }[] = [];

  /** Returns the live session that has this id, or had it and is within the grace of its regeneration. */
  find(id: string): ModelSession | undefined {
    const next = this.#forwards.get(id);
    return next === undefined ? this.#live.get(id) : this.find(next);
  }

  /** Does the same, but only for a session of this user; an empty user id stands for any. */
  #findOf(userId: string, id: string): ModelSession | undefined {
    const session = this.find(id);
    return userId === "" || session?.userId === userId ? session : undefined;
  }

  sessionsOf(userId: string): ModelSession[] {
    return [...this.#live.values()].filter((session) => session.userId === userId);
  }

  /** @param id The id that the service gave the session; unused if the create fails. */
  create(id: string, login: Login): Outcome<ModelSession> {
    const { userId, kind, device } = login;
    const requestKey = `${userId}\n${login.requestId}`;
    const earlier = login.requestId === "" ? undefined : this.#createdByRequest.get(requestKey);
    if (earlier) return this.#retry(earlier, login);
    const refused = this.#admit(login);
    if (refused) return refused;

    if (this.#live.has(id) || this.#ended.has(id)) throw new Error(`${id} is used twice`);
    const session: ModelSession = {
      ...{ id, userId, kind, device, version: 1n, idleMs: login.idleMs, data: login.data, secret: login.secret },
      ...{ deviceType: login.deviceType, labels: login.labels, deviceName: "", level: 0 },
      ...{ absoluteMs: DEFAULT_ABSOLUTE_MS, authenticated: login.authenticated },
      fields: new Map(Object.entries(login.fields)),
      ...{ graces: new Set<number>(), voids: new Set<number>(), former: new Set<number>(), parent: undefined },
      ...{ rotations: new Map<string, number>(), created: this.step, accessed: this.step },
    };
    this.#live.set(id, session);
    if (login.requestId !== "") this.#createdByRequest.set(requestKey, { id, secret: login.secret, kind });
    this.#loggedIn(session);
    return { value: session };
  }

  /** Ends the sessions that give way to a login, or returns why the login is refused. An anonymous one is always accepted. */
  #admit(login: Admission): { error: string } | undefined {
    const { userId, device, authenticated } = login;
    if (userId === "") return undefined;
    if (authenticated !== undefined && authenticated <= (this.#revokedAt.get(userId) ?? -1)) {
      return { error: "REVOKED_SINCE_LOGIN" };
    }
    const replaced = this.#sessionOnDevice(userId, device);
    const others = this.sessionsOf(userId).filter((session) => session !== replaced);
    const counted = others.filter((other) => isCounted(other, login));
    const excess = login.limit ? Math.max(0, counted.length + 1 - login.limit.max) : 0;
    if (excess > 0 && !login.limit!.evict) return { error: "SESSION_LIMIT_REACHED" };
    const oldest = counted.toSorted((a, b) => a.accessed - b.accessed).slice(0, excess);
    if (replaced) this.#end(replaced, "device_replaced");
    for (const session of oldest) this.#end(session, "evicted");
    return undefined;
  }

  #loggedIn(session: ModelSession): void {
    const { device, userId } = session;
    if (device !== "" && userId !== "") this.#lastOnDevice.set(device, session);
    this.#addToAudit(session, "created");
  }

  #retry(earlier: ModelToken & { kind: Kind }, { kind, secret }: Login): Outcome<ModelSession> {
    if (earlier.kind !== kind) return { error: "REQUEST_ID_REUSED" };
    const session = this.find(earlier.id);
    if (!session) return { error: "REQUEST_ID_SPENT" };
    if (kind !== "secure") return { value: session };
    // The response with the first token was lost, so nobody may go on with it.
    const outcome = this.#replaceSecret(session, secret);
    for (const former of session.former) session.voids.add(former);
    return outcome;
  }

  validate(id: string, touch: boolean): Outcome<ModelSession> {
    const session = this.find(id);
    if (!session || session.kind === "secure") return NOT_FOUND;
    return touch ? this.#touch(session) : { value: session };
  }

  update(
    id: string,
    userId: string,
    data: Data,
    merge: boolean,
    expectedVersion: bigint,
    touch: boolean,
  ): Outcome<ModelSession> {
    return this.#change(this.#findOf(userId, id), expectedVersion, touch, (session) => {
      session.data = merge ? (rfc7396MergePatch(session.data ?? {}, data ?? {}) as Data) : data;
    });
  }

  fields(id: string): Outcome<ModelSession> {
    return this.#touch(this.find(id));
  }

  setFields(
    id: string,
    userId: string,
    fields: Record<string, string>,
    remove: string[],
    version: bigint,
    touch: boolean,
  ): Outcome<ModelSession> {
    return this.#change(this.#findOf(userId, id), version, touch, (session) => {
      const after = new Map([...session.fields, ...Object.entries(fields)]);
      for (const name of remove) after.delete(name);
      if (after.size > FIELDS_MAX) return "FIELD_LIMIT_REACHED";
      session.fields = after;
      return undefined;
    });
  }

  increment(id: string, userId: string, field: string, delta: bigint, touch: boolean): Outcome<bigint> {
    const outcome = this.#change(this.#findOf(userId, id), 0n, touch, ({ fields }) => {
      if (!fields.has(field) && fields.size >= FIELDS_MAX) return "FIELD_LIMIT_REACHED";
      const value = incremented(fields.get(field) ?? "0", delta);
      if (typeof value === "string") return value;
      fields.set(field, String(value));
      return undefined;
    });
    return "error" in outcome ? outcome : { value: BigInt(outcome.value.fields.get(field)!) };
  }

  updateSession(id: string, userId: string, update: Update, expectedVersion: bigint): Outcome<ModelSession> {
    const change = (session: ModelSession) => {
      if (update.deviceName !== undefined && session.device === "") return "INVALID_REQUEST";
      session.idleMs = update.idleMs ?? session.idleMs;
      session.absoluteMs = update.absoluteMs ?? session.absoluteMs;
      session.labels = update.labels ?? session.labels;
      session.deviceName = update.deviceName ?? session.deviceName;
      return undefined;
    };
    return this.#change(this.#findOf(userId, id), expectedVersion, false, change, "updated");
  }

  /** @param presented The token or the id of a session. @param newSecret Undefined if the token stays. */
  recordAuthentication(
    presented: string | ModelToken,
    userId: string,
    level: number,
    newSecret: number | undefined,
    attempt: Attempt,
  ): Outcome<ModelSession> {
    const record = (session: ModelSession): Outcome<ModelSession> => {
      session.level = level;
      session.authenticated = this.step;
      return this.#touch(session);
    };
    if (typeof presented === "string") {
      return this.#change(this.#findOf(userId, presented), 0n, true, record, "authenticated");
    }
    if (this.#findOf(userId, presented.id) === undefined) return NOT_FOUND;
    if (newSecret !== undefined) return this.#rotate(presented, newSecret, attempt, "authenticated", record);
    const { session, secret } = this.#present(presented);
    if (secret !== "current" && secret !== "grace") return NOT_FOUND;
    return this.#change(session, 0n, true, record, "authenticated");
  }

  validateToken(token: ModelToken, touch: boolean): Outcome<ModelSession> {
    const { session, secret } = this.#present(token);
    if (secret !== "current" && secret !== "grace") return NOT_FOUND;
    return touch ? this.#touch(session) : { value: session! };
  }

  rotate(token: ModelToken, newSecret: number, attempt: Attempt): Outcome<ModelSession> {
    return this.#rotate(token, newSecret, attempt, "rotated");
  }

  #rotate(
    token: ModelToken,
    newSecret: number,
    { requestId, age }: Attempt,
    event: "rotated" | "authenticated",
    change: (session: ModelSession) => unknown = () => undefined,
  ): Outcome<ModelSession> {
    const attempt = `${event} ${token.id} ${token.secret} ${requestId}`;
    const derived = requestId === "" ? undefined : this.find(token.id)?.rotations.get(attempt);
    const isRetry = derived !== undefined && derived === this.find(token.id)!.secret && age !== "expired";
    if (isRetry) return { value: this.find(token.id)! };
    const { session, secret } = this.#present(token);
    if (secret !== "current" && secret !== "grace") return NOT_FOUND;
    if (secret === "grace" && (session!.parent !== token.secret || derived !== undefined || age === "recent")) {
      return { error: "ROTATED_CONCURRENTLY" };
    }
    session!.graces.add(session!.secret);
    session!.parent = token.secret;
    session!.rotations.set(attempt, newSecret);
    change(session!);
    return this.#replaceSecret(session!, newSecret, event);
  }

  revokeToken(token: ModelToken): boolean {
    const { session, secret } = this.#present(token);
    if (secret === "current" || secret === "grace") this.#end(session!, "revoked");
    return secret !== "none";
  }

  /**
   * @param presented The token of a secure session, the id of any other.
   * @param userId The owner of the session, the user who logs in if the session is anonymous, or empty.
   */
  regenerate(
    presented: string | ModelToken,
    newId: string,
    grace: boolean,
    secret: number,
    attempt: Attempt,
    userId: string,
    limit: Login["limit"],
  ): Outcome<ModelSession> {
    const byToken = typeof presented !== "string";
    const id = byToken ? presented.id : presented;
    const session = this.#live.get(id);
    if (!session) return this.#regenerated(id, byToken ? presented.secret : undefined, attempt, userId);
    if ((session.kind === "secure") !== byToken) return NOT_FOUND;
    const isLogin = userId !== "" && session.userId === "";
    if (userId !== "" && !isLogin && session.userId !== userId) return NOT_FOUND;
    if (byToken && this.#present(presented).secret !== "current") return NOT_FOUND;
    const refused = isLogin ? this.#admit({ ...session, userId, limit }) : undefined;
    if (refused) return refused;
    if (this.#live.has(newId) || this.#ended.has(newId)) throw new Error(`${newId} is used twice`);
    this.#live.delete(session.id);
    this.#ended.set(session.id, { userId: session.userId, reason: "regenerated" });
    if (grace) this.#forwards.set(session.id, newId);
    const { requestId } = attempt;
    if (requestId !== "") this.#regenerations.set(id, { requestId, newId, from: session.secret, to: secret, isLogin });
    const formerId = session.id;
    session.id = newId;
    this.#live.set(newId, session);
    if (byToken && grace) session.graces.add(session.secret);
    if (byToken) session.former.add(session.secret);
    if (byToken) session.secret = secret;
    session.parent = undefined;
    session.version += 1n;
    if (isLogin) {
      session.userId = userId;
      for (const secrets of [session.graces, session.voids, session.former]) secrets.clear();
      this.#loggedIn(session);
    } else {
      this.#addToAudit(session, "regenerated", formerId);
    }
    return this.#touch(session);
  }

  /** A regeneration of an id that is gone: a retry, or too late. */
  #regenerated(
    id: string,
    secret: number | undefined,
    { requestId, age }: Attempt,
    userId: string,
  ): Outcome<ModelSession> {
    const first = this.#regenerations.get(id);
    if (!first || first.requestId !== requestId || age === "expired") return NOT_FOUND;
    const session = this.#live.get(first.newId);
    if (!session || (session.kind === "secure") !== (secret !== undefined)) return NOT_FOUND;
    if (userId !== session.userId && (userId !== "" || first.isLogin)) return NOT_FOUND;
    const isSameToken = secret === undefined || (secret === first.from && session.secret === first.to);
    return isSameToken ? { value: session } : NOT_FOUND;
  }

  /** Ends all graces of a user's sessions. Returns the current and former ids whose records hold a grace. */
  passGrace(userId: string): string[] {
    const sessions = this.sessionsOf(userId);
    const formerIds = [...this.#forwards.keys()].filter((id) => sessions.includes(this.find(id)!));
    for (const id of formerIds) this.#forwards.delete(id);
    for (const session of sessions) session.graces.clear();
    return [...sessions.map(({ id }) => id), ...formerIds];
  }

  /** Reads the session of a user on a device; without a user, that of the last login on the device. */
  getDevice(device: string, userId?: string): Outcome<ModelSession> {
    if (userId !== undefined) return this.#touch(this.#sessionOnDevice(userId, device));
    const last = this.#lastOnDevice.get(device);
    return this.#touch(last && this.#live.get(last.id));
  }

  revokeDevice(userId: string, device: string): boolean {
    const session = this.#sessionOnDevice(userId, device);
    if (session) this.#end(session, "device_revoked");
    return session !== undefined;
  }

  /** The timeout ends the session that comes first; a history takes no time against any of them. */
  expire(id: string): ModelSession | undefined {
    const session = this.find(id);
    if (session) this.#end(session, session.absoluteMs < session.idleMs ? "absolute_timeout" : "expired");
    return session;
  }

  end(id: string, reason: "deleted" | "revoked", userId = ""): ModelSession | undefined {
    const session = this.#findOf(userId, id);
    if (session) this.#end(session, reason);
    return session;
  }

  /** Returns the sessions that a filter by users and by a label selects. */
  select(userIds: readonly string[], app: string | undefined): ModelSession[] {
    const sessions = userIds.flatMap((userId) => this.sessionsOf(userId));
    return sessions.filter(({ labels }) => app === undefined || labels[LIMIT_LABEL] === app);
  }

  endAllOf(userId: string, exceptId: string): number {
    const kept = this.find(exceptId);
    const ended = this.sessionsOf(userId).filter((session) => session !== kept);
    for (const session of ended) this.#end(session, "user_revoked", false);
    this.#revokedAt.set(userId, this.step);
    this.#audit.push({ userId, entry: `user_revoked   ${ended.length}` });
    return ended.length;
  }

  explain(id: string): Explained {
    const session = this.#live.get(id);
    if (session) return { state: "alive", userId: session.userId, reason: "unspecified" };
    const end = this.#ended.get(id);
    return end ? { state: "ended", ...end } : { state: "unknown", userId: "", reason: "unspecified" };
  }

  /** Returns `<event> <session_id> <device> <detail>` for each mutation, oldest first. */
  audit(userId: string): string[] {
    return this.#audit.filter((each) => each.userId === userId).map((each) => each.entry);
  }

  #sessionOnDevice(userId: string, device: string): ModelSession | undefined {
    return this.sessionsOf(userId).find((session) => device !== "" && session.device === device);
  }

  /** Returns what the secret of a presented token is. A reused secret ends the session. */
  #present({ id, secret }: ModelToken): Presented {
    const session = this.find(id);
    if (!session) return { secret: "none" };
    if (secret === session.secret) return { session, secret: "current" };
    if (session.voids.has(secret)) return { secret: "none" };
    if (session.graces.has(secret)) return { session, secret: "grace" };
    this.#end(session, "token_reused");
    return { secret: "reused" };
  }

  #replaceSecret(session: ModelSession, secret: number, event = "rotated"): Outcome<ModelSession> {
    session.former.add(session.secret);
    session.secret = secret;
    session.version += 1n;
    this.#addToAudit(session, event);
    return this.#touch(session);
  }

  #change(
    session: ModelSession | undefined,
    expectedVersion: bigint,
    touch: boolean,
    change: (session: ModelSession) => unknown,
    event = "data_updated",
  ): Outcome<ModelSession> {
    if (!session) return NOT_FOUND;
    if (expectedVersion !== 0n && expectedVersion !== session.version) return { error: "VERSION_MISMATCH" };
    const fault = change(session);
    if (typeof fault === "string") return { error: fault };
    session.version += 1n;
    this.#addToAudit(session, event);
    return touch ? this.#touch(session) : { value: session };
  }

  #touch(session: ModelSession | undefined): Outcome<ModelSession> {
    if (!session) return NOT_FOUND;
    session.accessed = this.step;
    return { value: session };
  }

  #end(session: ModelSession, reason: string, audited = true): void {
    this.#live.delete(session.id);
    this.#ended.set(session.id, { userId: session.userId, reason });
    if (audited) this.#addToAudit(session, reason);
  }

  #addToAudit({ userId, id, device }: ModelSession, event: string, detail = ""): void {
    this.#audit.push({ userId, entry: `${event} ${id} ${device} ${detail}` });
  }
}
