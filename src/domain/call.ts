// The context of a call: its caller and its deadline, as every layer below the hosts sees them.

import type { Scope } from "./scope.ts";

/** The tenant of the API key of an operator, which may administer all tenants and do nothing else. */
export const ALL_TENANTS = "*";

/** The authenticated caller. Comes from the credential, never from a request. */
export type Principal = {
  /** The isolation domain of its sessions; `default` if callers are not authenticated. */
  readonly tenant: string;
  /** The name of its API key, for the audit trail; `anonymous` if callers are not authenticated. */
  readonly name: string;
  /** What its API key allows; everything if callers are not authenticated. */
  readonly scopes: ReadonlySet<Scope>;
};

/** Returns true if both are the same caller and may do the same. */
export function isSamePrincipal(a: Principal, b: Principal): boolean {
  const hasSameScopes = a.scopes.size === b.scopes.size && [...a.scopes].every((scope) => b.scopes.has(scope));
  return a.tenant === b.tenant && a.name === b.name && hasSameScopes;
}

/** When work for a call has to stop. */
export type CallDeadline = {
  /** The instant by which the caller must have its response, on the clock of performance.now(). Infinity: none. */
  readonly deadlineMs: number;
  /** Aborted when the caller disconnects or the deadline passes. */
  readonly signal: AbortSignal;
};

export type CallContext = CallDeadline & { readonly principal: Principal };
