// The file of API keys (SA_API_KEYS_FILE): parses it and reports everything that is wrong with it.

import { ALL_TENANTS, type Principal } from "../domain/call.ts";
import { SCOPES, type Scope } from "../domain/scope.ts";

/** One key. The file holds only its digest, so the file gives no access to a reader. */
export type ApiKey = {
  /** SHA-256 of the key, 32 bytes. */
  readonly digest: Buffer;
  readonly principal: Principal;
};

const MAX_NAME_BYTES = 256;

/** @throws Error that names all faults. */
export function parseApiKeys(text: string): ApiKey[] {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    // The parser's own message quotes the file.
    throw new Error("is not JSON");
  }
  if (!isObject(document) || !Array.isArray(document["keys"])) {
    throw new Error('must be {"keys": [{"name", "tenant", "sha256", "scopes"}, …]}');
  }
  const faults: string[] = [];
  for (const member of Object.keys(document)) if (member !== "keys") faults.push(`${member}: unknown member`);
  if (document["keys"].length === 0) faults.push("keys: is empty, so nobody could call");

  const keys: ApiKey[] = [];
  const names = new Set<string>();
  const digests = new Set<string>();
  for (const [index, entry] of document["keys"].entries()) {
    const key = parseKey(entry, (fault) => faults.push(`keys[${index}]${fault}`));
    if (key === undefined) continue;
    if (names.has(key.principal.name)) faults.push(`keys[${index}].name: is used twice`);
    if (digests.has(key.digest.toString("hex"))) faults.push(`keys[${index}].sha256: is used twice`);
    names.add(key.principal.name);
    digests.add(key.digest.toString("hex"));
    keys.push(key);
  }
  if (faults.length > 0) throw new Error(faults.join("; "));
  return keys;
}

function parseKey(entry: unknown, fault: (text: string) => void): ApiKey | undefined {
  if (!isObject(entry)) {
    fault(": must be an object");
    return undefined;
  }
  const { name, tenant, sha256, scopes, ...unknown } = entry;
  for (const member of Object.keys(unknown)) fault(`.${member}: unknown member`);
  if (!isName(name)) fault(`.name: must be 1 to ${MAX_NAME_BYTES} bytes of text`);
  if (!isName(tenant)) fault(`.tenant: must be 1 to ${MAX_NAME_BYTES} bytes of text`);
  const isDigest = typeof sha256 === "string" && /^[0-9a-f]{64}$/i.test(sha256);
  if (!isDigest) fault(".sha256: must be the SHA-256 of the key, 64 hexadecimal digits");
  if (!isScopes(scopes)) fault(`.scopes: must be a list of ${SCOPES.join(", ")}`);
  if (tenant === ALL_TENANTS && isScopes(scopes) && scopes.some((scope) => scope !== "admin")) {
    fault(`.scopes: must be ["admin"] for a key of all tenants ("${ALL_TENANTS}")`);
    return undefined;
  }
  if (!isName(name) || !isName(tenant) || !isDigest || !isScopes(scopes)) return undefined;
  return { principal: { tenant, name, scopes: new Set(scopes) }, digest: Buffer.from(sha256, "hex") };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isName(value: unknown): value is string {
  return (
    typeof value === "string" && value !== "" && value.isWellFormed() && Buffer.byteLength(value) <= MAX_NAME_BYTES
  );
}

function isScopes(value: unknown): value is Scope[] {
  return Array.isArray(value) && value.length > 0 && value.every((scope) => SCOPES.includes(scope));
}
