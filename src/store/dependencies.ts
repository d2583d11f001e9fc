// What the files of the store's operations share: dependencies, settings, and how values become the ARGV of the scripts.

import type { CallContext } from "../domain/call.ts";
import { ownerOf } from "../domain/owner.ts";
import type { StoreConnection } from "./connection/connection.ts";
import type { Scripts } from "./scripts.ts";

export type StoreSettings = {
  /** Accesses within this time slide the idle timeout once; undefined: idle/100, at most 60 s. */
  readonly touchIntervalMs: number | undefined;
  /** A user's audit trail is kept for this time after its last entry. */
  readonly auditRetentionMs: number;
  /** The most creates of a user in a period; undefined: no limit. */
  readonly createRate: { readonly count: number; readonly periodMs: number } | undefined;
  /** No session lives longer than this after its creation. */
  readonly absoluteTimeoutMaxMs: number;
  /** A secret that was rotated away stays valid for this time. */
  readonly rotationGraceMs: number;
  /** New sessions are put into the index of their tenant. */
  readonly tenantIndex: boolean;
};

export type StoreDependencies = {
  readonly connection: StoreConnection;
  readonly scripts: Scripts;
  readonly settings: StoreSettings;
};

/** A request with a request id may be repeated for this time. */
export const REQUEST_ID_TTL_MS = 10 * 60_000;

/**
 * Returns the ARGV audit_retention_ms and by: `<principal>/<actor>`, where the actor is on whose behalf the caller says to act. Both are
 * percent-encoded, so that they are one word of a change.
 */
export function auditArgs(settings: StoreSettings, call: CallContext, actor = ""): [string, string] {
  return [String(settings.auditRetentionMs), doneByArg({ principal: call.principal.name, actor })];
}

/** Who did something: the authenticated caller, and on whose behalf. Both are empty for a timeout. */
export type DoneBy = { readonly principal: string; readonly actor: string };

/** Returns the ARGV by of these two. */
export function doneByArg({ principal, actor }: DoneBy): string {
  return `${encodeURIComponent(principal)}/${encodeURIComponent(actor)}`;
}

/** Parses what `doneByArg` has written. */
export function parseDoneBy(word: string): DoneBy {
  const [principal = "", actor = ""] = word.split("/").map(decodeURIComponent);
  return { principal, actor };
}

/** What opens a session, as changes and audit entries name it. */
export type Opener = "id" | "token";

export function parseOpener(word: string): Opener {
  return word === "t" ? "token" : "id";
}

/** A session that must be of this user; an empty user id stands for any user. */
export type OwnedSession = { readonly sessionId: string; readonly userId: string };

/** Returns the ARGV owner of a script that acts only on a session of this user; an empty user id stands for any user. */
export function ownerArg(userId: string, call: CallContext): string {
  return userId === "" ? "" : ownerOf(call.principal.tenant, userId);
}

/** Returns the ARGV slides of a change: whether it is an access. */
export function slidesArg(touch: boolean): string {
  return touch ? "1" : "0";
}

/** Returns a Buffer on the same memory, because node-redis takes no other byte arrays. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
