// Session references: what a caller receives in place of a session id that it may not use. A reference names a session and cannot
// be used as its id: `ref_` and base64url of key id (2 bytes), synthetic IV (16) and the encrypted session id (21).
//
// The IV is an HMAC of the id and the tenant. So the same session has the same reference for as long as one key is active, a
// reference is bound to its tenant, and one that was not made with a key of the ring is refused.

import { createCipheriv, createHmac, timingSafeEqual } from "node:crypto";
import { decodeBase64url } from "../lib/base64url.ts";
import { partitionOfSessionId } from "./session_id.ts";
import type { TokenKey, TokenKeyRing } from "./token.ts";

const PREFIX = "ref_";
const KID_BYTES = 2;
const IV_BYTES = 16;
const SESSION_ID_BYTES = 21;
const REFERENCE_BYTES = KID_BYTES + IV_BYTES + SESSION_ID_BYTES;
/** 39 bytes fill their base64url characters exactly, so a reference has one spelling only. */
const REFERENCE_LENGTH = PREFIX.length + 52;

/** Returns the reference to a session of a tenant, made with the active key; an id that no session can have stays as it is. */
export function sessionReference(ring: TokenKeyRing, tenant: string, sessionId: string): string {
  if (partitionOfSessionId(sessionId) === undefined) return sessionId;
  const id = Buffer.from(sessionId, "base64url");
  const kid = Buffer.alloc(KID_BYTES);
  kid.writeUInt16BE(ring.active.kid);
  const iv = syntheticIv(ring.active, tenant, id);
  return PREFIX + Buffer.concat([kid, iv, applyCipher(ring.active, iv, id)]).toString("base64url");
}

/** Returns the session id in a reference. Returns undefined unless a key of the ring has made it for this tenant. */
export function sessionIdOfReference(ring: TokenKeyRing, tenant: string, reference: string): string | undefined {
  if (reference.length !== REFERENCE_LENGTH || !reference.startsWith(PREFIX)) return undefined;
  const bytes = Buffer.alloc(REFERENCE_BYTES);
  if (!decodeBase64url(reference, PREFIX.length, bytes)) return undefined;
  const key = ring.verifying.get(bytes.readUInt16BE(0));
  if (key === undefined) return undefined;
  const iv = bytes.subarray(KID_BYTES, KID_BYTES + IV_BYTES);
  const id = applyCipher(key, iv, bytes.subarray(KID_BYTES + IV_BYTES));
  return timingSafeEqual(iv, syntheticIv(key, tenant, id)) ? id.toString("base64url") : undefined;
}

function syntheticIv(key: TokenKey, tenant: string, id: Buffer): Buffer {
  return createHmac("sha256", derivedKeys(key).mac).update(id).update(tenant).digest().subarray(0, IV_BYTES);
}

/** Encrypts and decrypts: in counter mode both are the same. */
function applyCipher(key: TokenKey, iv: Buffer, bytes: Buffer): Buffer {
  return createCipheriv("aes-256-ctr", derivedKeys(key).cipher, iv).update(bytes);
}

type DerivedKeys = { readonly mac: Buffer; readonly cipher: Buffer };
const derived = new WeakMap<TokenKey, DerivedKeys>();

/** Returns the keys of references, which are independent of each other and of the key that signs tokens. */
function derivedKeys(key: TokenKey): DerivedKeys {
  const derive = (purpose: string) => createHmac("sha256", key.key).update(`session reference ${purpose}`).digest();
  let keys = derived.get(key);
  if (keys === undefined) derived.set(key, (keys = { mac: derive("mac"), cipher: derive("cipher") }));
  return keys;
}
