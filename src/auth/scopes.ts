// The scopes of API keys.

/** The scopes that an API key can have. */
export const SCOPES = ["read", "write", "audit", "watch"] as const;

export type Scope = (typeof SCOPES)[number];
