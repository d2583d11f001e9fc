// What the race suite asks of a store of sessions, in plain values. The real service answers it, and each known-bad store
// the part of it that it is about.

export type Variant = "simple" | "hash" | "secure" | "device";

/** A session as its holder knows it. */
export type Held = {
  /** Its handle, as lists show it. */
  readonly id: string;
  /** What opens it: the id itself, or the token of a secure session. */
  readonly bearer: string;
};

export type Login = {
  /** A simple session when not given. A store that knows one variant only makes that one. */
  readonly variant?: Variant;
  /** What a device session is on. */
  readonly deviceId?: string;
  /** Kept with the session. */
  readonly note?: string;
  readonly limit?: { readonly max: number; readonly onExceed: "reject" | "evict" };
};

export type Rotation = { readonly token: string } | "rotated by another call" | "gone";

export type RaceSubject = {
  /** Undefined: the limit refused it. */
  create(userId: string, login?: Login): Promise<Held | undefined>;
  /** Whether it opens a live session; an access that slides nothing. */
  validate(bearer: string): Promise<boolean>;
  /** An access that slides the idle timeout: the session's note, undefined when it is dead. */
  access(bearer: string): Promise<string | undefined>;
  /** Whether this call ended it. */
  remove(id: string): Promise<boolean>;
  /** Ends it as its timeout would. */
  expire(id: string): Promise<void>;
  /** How many sessions this call ended. */
  revokeAll(userId: string): Promise<number>;
  /** The ids of a user's live sessions. */
  list(userId: string): Promise<readonly string[]>;
  /** The ids of a user's live sessions on devices. */
  listDevices(userId: string): Promise<readonly string[]>;
  /** Writes one field of a hash session; whether it was there to be written. */
  setField(id: string, name: string, value: string): Promise<boolean>;
  /** The session under a new id; undefined: this call did not do it. */
  regenerate(bearer: string): Promise<Held | undefined>;
  rotate(token: string): Promise<Rotation>;
  /** Whether this call ended the token's session. */
  revokeToken(token: string): Promise<boolean>;
  /** What somebody makes who knows the session of a token but not its secret. */
  forge(token: string): string;
  /** The keys that still hold a session: its record and fields. */
  keysOf(id: string): Promise<readonly string[]>;
  /** The steps of the writer that ends a session: it may die after any of them. */
  endSteps(id: string): readonly (() => Promise<unknown>)[];
  /** Calls the listener when the feed of changes says that the session has ended. */
  onEnded(id: string, listener: () => void): void;
  /** Resolves once the feed has delivered all that was published before the call. */
  feedDelivered(): Promise<void>;
};

/** A part of a subject. */
export type Part<K extends keyof RaceSubject> = Pick<RaceSubject, K>;

/** Each call answers the next of the items, in a circle: consecutive calls use different connections. */
export function inTurn<T>(items: readonly T[]): () => T {
  let turn = 0;
  return () => items[turn++ % items.length]!;
}
