// Tokens of secure sessions: `sat1_` and base64url of key id (2 bytes), session_id (21), secret (32) and an HMAC-SHA256 over
// all of it and the tenant (32). The HMAC is a filter: a token that we did not mint for this tenant costs no store call.

import { randomBytes, timingSafeEqual, type KeyObject } from "node:crypto";
import { decodeBase64url } from "../lib/base64url.ts";
import { HmacSha256, sha256 } from "../lib/hmac.ts";

/** One key of a ring. */
export type TokenKey = {
  /** 0 to 65,535, unique in the ring. */
  readonly kid: number;
  /** 32 random bytes. */
  readonly key: KeyObject;
};

/** The keys in force: one to mint with, and all that still verify, by their kid. */
export type TokenKeyRing = { readonly active: TokenKey; readonly verifying: ReadonlyMap<number, TokenKey> };

/** A secret and its SHA-256 digest, by which the store knows it. */
export type Secret = { readonly secret: Buffer; readonly digest: Buffer };

/** What a genuine token says. It may still be expired, rotated away or revoked. */
export type OpenedToken = { readonly sessionId: string; readonly digest: Buffer };

const PREFIX = "sat1_";
const KID_BYTES = 2;
const SESSION_ID_BYTES = 21;
const SECRET_BYTES = 32;
const SIGNED_BYTES = KID_BYTES + SESSION_ID_BYTES + SECRET_BYTES;
const TOKEN_BYTES = SIGNED_BYTES + 32;
/** 87 bytes fill their base64url characters exactly, so a token has one spelling only. */
const TOKEN_LENGTH = PREFIX.length + 116;

/** Where a token is taken apart, one at a time: nothing here waits. */
const opened = Buffer.alloc(TOKEN_BYTES);
const openedSigned = opened.subarray(0, SIGNED_BYTES);
const openedSecret = opened.subarray(KID_BYTES + SESSION_ID_BYTES, SIGNED_BYTES);
const openedMac = opened.subarray(SIGNED_BYTES);

export function newSecret(): Secret {
  const secret = randomBytes(SECRET_BYTES);
  return { secret, digest: sha256(secret) };
}

/** The token of a secret for a session of a tenant, minted with the active key. */
export function mintToken(ring: TokenKeyRing, tenant: string, sessionId: string, { secret }: Secret): string {
  const kid = Buffer.alloc(KID_BYTES);
  kid.writeUInt16BE(ring.active.kid);
  const signed = Buffer.concat([kid, Buffer.from(sessionId, "base64url"), secret]);
  return PREFIX + Buffer.concat([signed, macOf(ring.active, signed, tenant)]).toString("base64url");
}

/** What a token says if a key of the ring minted it for this tenant; else undefined. */
export function openToken(ring: TokenKeyRing, tenant: string, token: string): OpenedToken | undefined {
  if (token.length !== TOKEN_LENGTH || !token.startsWith(PREFIX)) return undefined;
  if (!decodeBase64url(token, PREFIX.length, opened)) return undefined;
  const key = ring.verifying.get(opened.readUInt16BE(0));
  if (key === undefined || !timingSafeEqual(openedMac, macOf(key, openedSigned, tenant))) return undefined;
  return {
    sessionId: opened.toString("base64url", KID_BYTES, KID_BYTES + SESSION_ID_BYTES),
    digest: sha256(openedSecret),
  };
}

// By key and tenant, of which there are few: both come from files of the operator.
const macs = new WeakMap<TokenKey, Map<string, HmacSha256>>();

/** 32 bytes, which the next call may overwrite. */
function macOf(key: TokenKey, signed: Buffer, tenant: string): Buffer {
  let macOfTenant = macs.get(key);
  if (macOfTenant === undefined) macs.set(key, (macOfTenant = new Map()));
  let mac = macOfTenant.get(tenant);
  if (mac === undefined) macOfTenant.set(tenant, (mac = newMac(key, tenant)));
  signed.copy(mac.message, PREFIX.length);
  return mac.digest();
}

function newMac({ key }: TokenKey, tenant: string): HmacSha256 {
  const tenantStart = PREFIX.length + SIGNED_BYTES;
  const mac = new HmacSha256(key, tenantStart + Buffer.byteLength(tenant));
  mac.message.write(PREFIX);
  mac.message.write(tenant, tenantStart);
  return mac;
}
