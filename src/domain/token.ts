// Tokens of secure sessions: `sat1_` and base64url of key id (2 bytes), session_id (21), secret (32) and an HMAC-SHA256 (32) over
// the prefix, all of it and the tenant. The HMAC lets the service refuse a forged or foreign token without a store call.

import { createHmac, randomBytes, timingSafeEqual, type KeyObject } from "node:crypto";
import { decodeBase64url } from "../lib/base64url.ts";
import { HmacSha256, sha256 } from "../lib/hmac.ts";

/** A key that signs tokens. */
export type TokenKey = {
  /** 0 to 65,535, unique in the ring. */
  readonly kid: number;
  /** 32 random bytes. */
  readonly key: KeyObject;
};

/** The keys in force: the one that signs new tokens, and all that verify tokens (the active one included) by their kid. */
export type TokenKeyRing = { readonly active: TokenKey; readonly verifying: ReadonlyMap<number, TokenKey> };

/** A secret of 32 bytes, random or derived, and its SHA-256 digest, which is all that the store holds. */
export type Secret = { readonly secret: Buffer; readonly digest: Buffer };

/** The content of a genuine token, whose session may have ended and whose secret may have been rotated away. */
export type VerifiedToken = { readonly sessionId: string; readonly digest: Buffer };

const PREFIX = "sat1_";
const KID_BYTES = 2;
const SESSION_ID_BYTES = 21;
const SECRET_BYTES = 32;
const SIGNED_BYTES = KID_BYTES + SESSION_ID_BYTES + SECRET_BYTES;
const TOKEN_BYTES = SIGNED_BYTES + 32;
/** 87 bytes fill their base64url characters exactly, so a token has one spelling only. */
const TOKEN_LENGTH = PREFIX.length + 116;

/** The bytes of the token that is being verified; verification is synchronous. */
const decoded = Buffer.alloc(TOKEN_BYTES);
const decodedSigned = decoded.subarray(0, SIGNED_BYTES);
const decodedSecret = decoded.subarray(KID_BYTES + SESSION_ID_BYTES, SIGNED_BYTES);
const decodedMac = decoded.subarray(SIGNED_BYTES);

/** Returns a new random secret. */
export function newSecret(): Secret {
  const secret = randomBytes(SECRET_BYTES);
  return { secret, digest: sha256(secret) };
}

/** Returns the token for a session of a tenant and its secret, signed with the active key. */
export function mintToken(ring: TokenKeyRing, tenant: string, sessionId: string, { secret }: Secret): string {
  const kid = Buffer.alloc(KID_BYTES);
  kid.writeUInt16BE(ring.active.kid);
  const signed = Buffer.concat([kid, Buffer.from(sessionId, "base64url"), secret]);
  return PREFIX + Buffer.concat([signed, macOf(ring.active, signed, tenant)]).toString("base64url");
}

/** Returns the content of a token. Returns undefined unless a key of the ring has signed it for this tenant. */
export function verifyToken(ring: TokenKeyRing, tenant: string, token: string): VerifiedToken | undefined {
  if (token.length !== TOKEN_LENGTH || !token.startsWith(PREFIX)) return undefined;
  if (!decodeBase64url(token, PREFIX.length, decoded)) return undefined;
  const key = ring.verifying.get(decoded.readUInt16BE(0));
  if (key === undefined || !timingSafeEqual(decodedMac, macOf(key, decodedSigned, tenant))) return undefined;
  return {
    sessionId: decoded.toString("base64url", KID_BYTES, KID_BYTES + SESSION_ID_BYTES),
    digest: sha256(decodedSecret),
  };
}

/** What a secret is derived for: no two purposes derive the same one. */
export type SecretPurpose = "rotate" | "regenerate" | "authenticate";

/**
 * Returns the secret that replaces that of a genuine token in a call with a request id: always the same for the same token and
 * id, so that a retry derives it again. The key is the one that signed the token, whichever is active now. Nobody can compute
 * the secret without the key, nor without the token.
 */
export function deriveSecret(
  ring: TokenKeyRing,
  tenant: string,
  token: string,
  purpose: SecretPurpose,
  requestId: string,
): Secret {
  const signed = Buffer.from(token.slice(PREFIX.length), "base64url").subarray(0, SIGNED_BYTES);
  const { key } = ring.verifying.get(signed.readUInt16BE(0))!;
  // The HMAC of a token begins with `sat1_`, so no message is one of both. Only the request id, at the end, is of any length.
  const secret = createHmac("sha256", key)
    .update(`sat1-derived:${purpose}:${encodeURIComponent(tenant)}:`)
    .update(signed)
    .update(requestId)
    .digest();
  return { secret, digest: sha256(secret) };
}

// By key and tenant. The map stays small: both come from files of the operator.
const macs = new WeakMap<TokenKey, Map<string, HmacSha256>>();

/** Returns 32 bytes, which the next call may overwrite. */
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
