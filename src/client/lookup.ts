// Session lookups: from the cache while that is safe, otherwise from the service, whose response fills the cache.

import { durationMs } from "@bufbuild/protobuf/wkt";
import { Verdict, type Session } from "../../gen/session/v1/session_pb.ts";
import { cutText } from "../lib/cut_text.ts";
import type { ValidateEntry, ValidateEntryInit } from "./batcher.ts";
import type { SessionCache } from "./cache.ts";

/**
 * The greatest length of a token or an id, for which the service rejects the whole request if one is longer, and of an address,
 * which the service would cut.
 */
const MAX_TEXT_BYTES = 256;

/** Without a cache every lookup goes to the service. */
export function createSessionLookup(validate: ValidateEntry, cache: SessionCache | undefined) {
  const counts = { hits: 0, misses: 0, bypasses: 0 };
  let closed = false;

  async function fill(key: string, entry: ValidateEntryInit): Promise<Session | undefined> {
    const ticket = cache?.beginFill();
    try {
      const { verdict, session: found, ipMismatch, expiresIn } = await validate(entry);
      const session = verdict === Verdict.VALID ? freeze(found) : undefined;
      // The service has to see every request from another address. A regenerated id leads to its successor for a grace, whose
      // end the response does not contain.
      const isSuccessor = entry.handle?.case === "sessionId" && entry.handle.value !== session?.sessionId;
      const isCacheable = session !== undefined && expiresIn !== undefined && !ipMismatch && !isSuccessor;
      const result = isCacheable ? { session, expiresInMs: durationMs(expiresIn) } : undefined;
      if (ticket !== undefined) cache!.endFill(key, ticket, result);
      return session;
    } catch (error) {
      if (ticket !== undefined) cache!.abandonFill(key, ticket);
      throw error;
    }
  }

  /** Resolves with undefined for a session that is not valid; rejects if the service gives no verdict. */
  async function find(kind: "token" | "sessionId", value: string, address: string): Promise<Session | undefined> {
    if (closed) throw new Error("the client is closed");
    const ipAddress = cutText(address, MAX_TEXT_BYTES);
    // The service never issued such a token or id.
    if (!isSendable(value)) return undefined;
    const key = `${kind}/${ipAddress.length}/${ipAddress}/${value}`;
    const entry: ValidateEntryInit = { handle: { case: kind, value }, touch: true, ipAddress };
    const found = cache?.lookup(key) ?? { kind: "bypass" };
    if (found.kind !== "hit") {
      if (found.kind === "miss") counts.misses++;
      else counts.bypasses++;
      return fill(key, entry);
    }
    counts.hits++;
    // Slides the idle timeout of a session that is found in the cache each time.
    if (found.needsRefresh) fill(key, entry).catch(() => undefined);
    return found.session;
  }

  return { find, counts, close: () => void (closed = true) };
}

function isSendable(text: string): boolean {
  return Buffer.byteLength(text) <= MAX_TEXT_BYTES && text.isWellFormed();
}

function freeze<T>(value: T): T {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return value;
  for (const member of Object.values(value)) freeze(member);
  return Object.freeze(value);
}
