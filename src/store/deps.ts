// What every file of the store that holds operations is made from.

import type { StoreConnection } from "./connection.ts";
import type { Scripts } from "./scripts.ts";

export type StoreSettings = {
  /** Accesses closer together than this slide the idle timeout once; undefined: idle/100, at most 60 s. */
  readonly touchIntervalMs: number | undefined;
  /** How long a user's audit trail is kept after its last entry. */
  readonly auditRetentionMs: number;
};

export type StoreDeps = {
  readonly connection: StoreConnection;
  readonly scripts: Scripts;
  readonly settings: StoreSettings;
};
