// What every file of the store that holds operations is made from.

import type { StoreConnection } from "./connection/connection.ts";
import type { Scripts } from "./scripts.ts";

export type StoreSettings = {
  /** Accesses closer together than this slide the idle timeout once; undefined: idle/100, at most 60 s. */
  readonly touchIntervalMs: number | undefined;
  /** How long a user's audit trail is kept after its last entry. */
  readonly auditRetentionMs: number;
  /** The most creates of a user in a period; undefined: any number. */
  readonly createRate: { readonly count: number; readonly periodMs: number } | undefined;
  /** How long a rotated-away secret stays valid. */
  readonly rotationGraceMs: number;
};

export type StoreDependencies = {
  readonly connection: StoreConnection;
  readonly scripts: Scripts;
  readonly settings: StoreSettings;
};
