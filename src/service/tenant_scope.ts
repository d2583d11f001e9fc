// The tenants that a call of an administrator is about, and places in lists that go through several tenants.

import { ALL_TENANTS, type CallContext } from "../domain/call.ts";
import { SessionError } from "../domain/errors.ts";
import type { AdminSessionStore } from "../store/admin_sessions.ts";

/** A place in the list of one tenant; `position` is empty for the beginning. */
export type TenantPosition = { readonly tenant: string; readonly position: string };

const LENGTH_DIGITS = 3;

/**
 * Returns the tenants of a call, in the order of their names: that of the caller's key; for a key of all tenants the requested
 * one, or all that have sessions.
 *
 * @throws SessionError SCOPE_MISSING if another key requests a tenant.
 */
export async function tenantsOf(
  requested: string,
  adminSessions: AdminSessionStore,
  call: CallContext,
): Promise<readonly string[]> {
  const own = ownTenant(requested, call);
  return own === undefined ? adminSessions.tenants(call) : [own];
}

/** Returns the tenant of a call, or undefined for all tenants. @throws as tenantsOf. */
export function ownTenant(requested: string, { principal }: CallContext): string | undefined {
  if (principal.tenant === ALL_TENANTS) return requested === "" ? undefined : requested;
  if (requested === "") return principal.tenant;
  throw new SessionError("SCOPE_MISSING", "only an API key of all tenants may name a tenant");
}

/** Encodes a place in base64url characters. */
export function encodeTenantPosition({ tenant, position }: TenantPosition): string {
  const name = Buffer.from(tenant).toString("base64url");
  return String(name.length).padStart(LENGTH_DIGITS, "0") + name + position;
}

/** Decodes a place; undefined for an empty text. */
export function decodeTenantPosition(text: string): TenantPosition | undefined {
  if (text === "") return undefined;
  const end = LENGTH_DIGITS + Number(text.slice(0, LENGTH_DIGITS));
  return {
    tenant: Buffer.from(text.slice(LENGTH_DIGITS, end), "base64url").toString(),
    position: text.slice(end),
  };
}

/** Returns the places where a list that goes on from `start` reads each of the tenants. */
export function placesFrom(tenants: readonly string[], start: TenantPosition | undefined): TenantPosition[] {
  return tenants
    .filter((tenant) => start === undefined || tenant >= start.tenant)
    .map((tenant) => ({ tenant, position: tenant === start?.tenant ? start.position : "" }));
}
