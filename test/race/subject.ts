// The operations that the race suite needs of a session store, in plain values. The real service implements all of them, each
// known-bad store the part that shows its fault.

export type Variant = "simple" | "hash" | "secure" | "device";

/** A session as the caller that created it knows it. */
export type HeldSession = {
  /** The session_id, as lists return it. */
  readonly id: string;
  /** What the caller presents to use the session: the id itself, or the token of a secure session. */
  readonly bearer: string;
};

export type Login = {
  /** A simple session by default. A store that has only one variant ignores it. */
  readonly variant?: Variant;
  /** The device of a device session. */
  readonly deviceId?: string;
  /** Stored with the session. */
  readonly note?: string;
  readonly limit?: { readonly max: number; readonly onExceed: "reject" | "evict" };
};

export type Rotation = { readonly token: string } | "rotated by another call" | "gone";

export type RaceSubject = {
  /** Creates a session. Returns undefined if the limit refuses it. */
  create(userId: string, login?: Login): Promise<HeldSession | undefined>;
  /** Returns true if the bearer belongs to a live session. Does not slide the idle timeout. */
  validate(bearer: string): Promise<boolean>;
  /** Returns the session's note and slides the idle timeout. Returns undefined if the session is not alive. */
  access(bearer: string): Promise<string | undefined>;
  /** Ends the session. Returns true if this call ended it. */
  remove(id: string): Promise<boolean>;
  /** Ends the session as its timeout would. */
  expire(id: string): Promise<void>;
  /** Ends the sessions of a user. Returns how many this call ended. */
  revokeAll(userId: string): Promise<number>;
  /** Returns the ids of a user's live sessions. */
  list(userId: string): Promise<readonly string[]>;
  /** Returns the ids of a user's live device sessions. */
  listDevices(userId: string): Promise<readonly string[]>;
  /** Writes one field of a hash session. Returns false if the session is not alive. */
  setField(id: string, name: string, value: string): Promise<boolean>;
  /** Gives the session a new id. Returns undefined if this call did not do it. */
  regenerate(bearer: string): Promise<HeldSession | undefined>;
  rotate(token: string): Promise<Rotation>;
  /** Ends the session of a token. Returns true if this call ended it. */
  revokeToken(token: string): Promise<boolean>;
  /** Makes a token with the same session_id and another secret. */
  forge(token: string): string;
  /** Returns those keys of a session that exist: its record and its fields. */
  keysOf(id: string): Promise<readonly string[]>;
  /** Returns the steps of the process that ends a session. It may die after any of them. */
  endSteps(id: string): readonly (() => Promise<unknown>)[];
  /** Calls the listener when the store publishes that the session has ended. */
  onEnded(id: string, listener: () => void): void;
  /** Resolves when everything that was published before the call has been delivered. */
  publicationsDelivered(): Promise<void>;
};

/** A part of a subject. */
export type Part<K extends keyof RaceSubject> = Pick<RaceSubject, K>;

/** Returns a function that returns the items in turn, so that consecutive calls use different connections. */
export function inTurn<T>(items: readonly T[]): () => T {
  let turn = 0;
  return () => items[turn++ % items.length]!;
}
