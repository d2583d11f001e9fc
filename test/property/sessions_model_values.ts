// The types of the reference model, and its merge patch and increment, written after their specifications.

import type { DeviceType, LimitPer } from "../../gen/session/v1/session_pb.ts";

export const DAY_MS = 86_400_000;

/** The label that limits go by. */
export const LIMIT_LABEL = "app";

/** The method that created the session. Only `secure` ones have a token. */
export type Kind = "simple" | "hash" | "secure" | "device";
export type Data = Record<string, unknown> | undefined;

/** A Create request. */
export type Login = {
  /** Empty for an anonymous session. */
  readonly userId: string;
  readonly kind: Kind;
  readonly data: Data;
  readonly fields: Record<string, string>;
  /** Empty for a session without a device. */
  readonly device: string;
  readonly deviceType: DeviceType;
  readonly labels: Record<string, string>;
  readonly requestId: string;
  readonly idleMs: number;
  readonly limit: { readonly max: number; readonly evict: boolean; readonly per: LimitPer } | undefined;
  /** The step in which the login began. */
  readonly authenticated: number | undefined;
  /** The number of the secret that a new secure session gets. */
  readonly secret: number;
};

/** What decides whether a login is refused, and what it ends. */
export type Admission = Pick<Login, "userId" | "device" | "deviceType" | "labels" | "limit" | "authenticated">;

export type ModelSession = Pick<Login, "kind" | "device" | "deviceType"> & {
  id: string;
  userId: string;
  idleMs: number;
  /** From the creation to the absolute deadline. */
  absoluteMs: number;
  labels: Record<string, string>;
  deviceName: string;
  level: number;
  /** The step of the last authentication, undefined if none is known. */
  authenticated: number | undefined;
  version: bigint;
  data: Data;
  fields: Map<string, string>;
  secret: number;
  /** The former secrets that are within their grace. */
  graces: Set<number>;
  /** The secrets that a retried create voided: they are invalid, and their use does not end the session. */
  voids: Set<number>;
  /** All secrets that were replaced. */
  readonly former: Set<number>;
  /** The secret that was presented for the last rotation under this id: within its grace, it may rotate again. */
  parent: number | undefined;
  /** The secrets of rotations and step-ups with a request id, by token and request id. */
  readonly rotations: Map<string, number>;
  readonly created: number;
  /** The step of the last access that slid the idle timeout. */
  accessed: number;
};

/** An UpdateSession request; what is undefined stays. */
export type Update = {
  readonly idleMs: number | undefined;
  readonly absoluteMs: number | undefined;
  readonly labels: Record<string, string> | undefined;
  readonly deviceName: string | undefined;
};

/** A token: the id and the number of the secret that it was minted for. */
export type ModelToken = { readonly id: string; readonly secret: number };
/** The request id of a rotation or regeneration, empty for none, and how long ago the service takes the last one to be. */
export type Attempt = { readonly requestId: string; readonly age: Age };
/** `recent` is concurrent with the call, `late` may be retried, and `expired` is too long ago for a retry. */
export type Age = "recent" | "late" | "expired";
/** The reason of a failed call, or the response. */
export type Outcome<T> = { readonly error: string } | { readonly value: T };
export type Explained = { state: "alive" | "ended" | "unknown"; userId: string; reason: string };

const INT64_MAX = 2n ** 63n - 1n;
const INT64_MIN = -(2n ** 63n);

/** The pseudo code of RFC 7396 section 2, word for word, on Maps so that no member name is special. */
export function rfc7396MergePatch(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch;
  const result = new Map(Object.entries(isObject(target) ? target : {}));
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) result.delete(name);
    else result.set(name, rfc7396MergePatch(result.get(name), value));
  }
  return Object.fromEntries(result);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Returns the sum as an int64, or the reason of the error. */
export function incremented(text: string, delta: bigint): bigint | "NOT_AN_INTEGER" | "INTEGER_OVERFLOW" {
  if (!/^(0|-?[1-9]\d{0,18})$/.test(text)) return "NOT_AN_INTEGER";
  const before = BigInt(text);
  if (before > INT64_MAX || before < INT64_MIN) return "NOT_AN_INTEGER";
  const value = before + delta;
  return value > INT64_MAX || value < INT64_MIN ? "INTEGER_OVERFLOW" : value;
}
