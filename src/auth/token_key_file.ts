// The file of token keys (SA_TOKEN_KEYS_FILE): parses, creates and rotates it.

import { createSecretKey, randomBytes } from "node:crypto";
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { TokenKey, TokenKeyRing } from "../domain/token.ts";

/** The one `active` key signs and verifies tokens; a `verify-only` key verifies; tokens of a `retired` key are invalid. */
const STATES = ["active", "verify-only", "retired"] as const;
type KeyEntry = { readonly kid: number; readonly key: string; readonly state: (typeof STATES)[number] };

const KEY_BYTES = 32;
const MAX_KID = 65_535;

/**
 * Parses `{"keys": [{"kid": 1, "key": "<base64url of 32 bytes>", "state": "active"}]}`.
 * @throws Error that names all faults.
 */
export function parseTokenKeys(text: string): TokenKeyRing {
  const usable = new Map<number, TokenKey>();
  let active: TokenKey | undefined;
  for (const { kid, key, state } of parseEntries(text)) {
    if (state === "retired") continue;
    const tokenKey = { kid, key: createSecretKey(key, "base64url") };
    usable.set(kid, tokenKey);
    if (state === "active") active = tokenKey;
  }
  return { active: active!, verifying: usable };
}

/** Creates a file with one new key. Returns false if the file exists, even if another process has just created it. */
export function generateTokenKeysFile(path: string): boolean {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  try {
    writeEntries(path, [newEntry(1)], linkSync);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** Adds a new active key, whose kid is the highest one plus 1. The key that was active still verifies. */
export function rotateTokenKeysFile(path: string): { kid: number } {
  const entries = parseEntries(readFileSync(path, "utf8"));
  const kid = Math.max(...entries.map((entry) => entry.kid)) + 1;
  if (kid > MAX_KID) throw new Error(`${path}: kid ${MAX_KID} is used; there is no next one`);
  const kept = entries.map(
    (entry) => ({ ...entry, state: entry.state === "active" ? "verify-only" : entry.state }) as const,
  );
  writeEntries(path, [...kept, newEntry(kid)], renameSync);
  return { kid };
}

/** Retires a key, which makes all its tokens invalid. @throws Error for the active key. */
export function retireTokenKey(path: string, kid: number): void {
  const entries = parseEntries(readFileSync(path, "utf8"));
  const entry = entries.find((candidate) => candidate.kid === kid);
  if (entry === undefined) throw new Error(`${path}: there is no key ${kid}`);
  if (entry.state === "active") throw new Error(`${path}: key ${kid} is active; rotate first`);
  const kept = entries.map((other) => (other === entry ? ({ ...entry, state: "retired" } as const) : other));
  writeEntries(path, kept, renameSync);
}

/** Returns the keys of a file without their secrets. */
export function describeTokenKeys(path: string): readonly { kid: number; state: string }[] {
  return parseEntries(readFileSync(path, "utf8")).map(({ kid, state }) => ({ kid, state }));
}

function newEntry(kid: number): KeyEntry {
  return { kid, key: randomBytes(KEY_BYTES).toString("base64url"), state: "active" };
}

// Written to a temporary file that then takes the place of the other, so that a service never reads half a file.
function writeEntries(path: string, keys: readonly KeyEntry[], place: (aside: string, path: string) => void): void {
  const aside = `${path}.${process.pid}.tmp`;
  try {
    writeFileSync(aside, `${JSON.stringify({ keys }, undefined, 2)}\n`, { mode: 0o600 });
    place(aside, path);
  } finally {
    rmSync(aside, { force: true });
  }
}

function parseEntries(text: string): KeyEntry[] {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    // The parser's own message quotes the file.
    throw new Error("is not JSON");
  }
  const keys = (document as { keys?: unknown } | null)?.keys;
  if (!Array.isArray(keys)) throw new Error('must be {"keys": [{"kid", "key", "state"}, …]}');
  const entries = keys as Partial<Record<keyof KeyEntry, unknown>>[];
  const faults = entries.flatMap((entry, index) => entryFaults(entry).map((fault) => `keys[${index}]${fault}`));
  if (new Set(entries.map((entry) => entry?.kid)).size !== entries.length) faults.push("keys: a kid is used twice");
  if (entries.filter((entry) => entry?.state === "active").length !== 1)
    faults.push("keys: exactly one must be active");
  if (faults.length > 0) throw new Error(faults.join("; "));
  return entries as KeyEntry[];
}

function entryFaults(entry: Partial<Record<keyof KeyEntry, unknown>> | null): string[] {
  const faults: string[] = [];
  const { kid, key, state } = entry ?? {};
  if (!Number.isInteger(kid) || (kid as number) < 0 || (kid as number) > MAX_KID) {
    faults.push(`.kid: must be a whole number from 0 to ${MAX_KID}`);
  }
  if (typeof key !== "string" || !/^[A-Za-z0-9_-]{43}=?$/.test(key)) faults.push(".key: must be 32 bytes in base64url");
  if (!STATES.includes(state as KeyEntry["state"])) faults.push(`.state: must be one of ${STATES.join(", ")}`);
  return faults;
}
