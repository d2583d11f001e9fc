// Scopes: what the credential of a caller allows. The contract defines them, and states the scope that each method requires.

import { ScopeSchema, type Scope as ContractScope } from "../../gen/session/v1/options_pb.ts";

type Names = typeof ContractScope;

/** A scope as the file of API keys names it: `read`. */
export type Scope = Lowercase<Exclude<keyof Names, "UNSPECIFIED">>;

/** All scopes, in the order of the contract. */
export const SCOPES: readonly Scope[] = ScopeSchema.values
  .filter(({ number }) => number !== 0)
  .map(({ localName }) => localName.toLowerCase() as Scope);

/** Returns the name of a value of the contract's enum, which must not be UNSPECIFIED. */
export function scopeOf(value: ContractScope): Scope {
  return ScopeSchema.value[value]!.localName.toLowerCase() as Scope;
}
