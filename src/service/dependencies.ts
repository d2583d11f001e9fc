// What the methods of SessionService are built on. Each family of methods takes from it what it needs.

import type { TokenKeyRing } from "../domain/token.ts";
import type { AdminEndStore } from "../store/admin_end.ts";
import type { AdminSessionStore } from "../store/admin_sessions.ts";
import type { AdminUserStore } from "../store/admin_users.ts";
import type { AuditStore } from "../store/audit.ts";
import type { SessionCreator } from "../store/create_session.ts";
import type { DeviceSessionStore } from "../store/device_sessions.ts";
import type { HashSessionStore } from "../store/hash_sessions.ts";
import type { IpBindingStore } from "../store/ip_binding.ts";
import type { RegenerationStore } from "../store/regeneration.ts";
import type { Replication } from "../store/replication.ts";
import type { SecureSessionStore } from "../store/secure_sessions.ts";
import type { SessionUpdateStore } from "../store/session_updates.ts";
import type { SessionStore } from "../store/simple_sessions.ts";
import type { SweepStore } from "../store/sweep.ts";
import type { ChangeLog } from "../store/watch_change_log.ts";
import type { WatchBroadcaster } from "../watch/broadcaster.ts";
import type { SessionReferences } from "./session_references.ts";
import type { IpBindingCheck } from "./validation/ip_binding.ts";
import type { SessionValidator } from "./validation/validator.ts";

/** The operations of the store, one entry for each of its families. */
export type SessionStores = {
  readonly create: SessionCreator;
  readonly sessions: SessionStore;
  readonly hashSessions: HashSessionStore;
  readonly secureSessions: SecureSessionStore;
  readonly deviceSessions: DeviceSessionStore;
  readonly regeneration: RegenerationStore;
  readonly sessionUpdates: SessionUpdateStore;
  readonly audit: AuditStore;
  readonly adminSessions: AdminSessionStore;
  readonly adminEnd: AdminEndStore;
  readonly adminUsers: AdminUserStore;
  readonly ipBinding: IpBindingStore;
  readonly sweep: SweepStore;
  readonly changes: ChangeLog;
  readonly replication: Replication;
};

/** The server's values for what a request leaves unset. */
export type SessionDefaults = {
  readonly idleTimeoutMs: number;
  readonly absoluteTimeoutMs: number;
  readonly absoluteTimeoutMaxMs: number;
  /** The limit on a user's live sessions, 0 for none, and what happens to a create above it. */
  readonly maxSessionsPerUser: number;
  readonly onExceed: "reject" | "evict";
  /** How many replicas must have the end of a session; 0 for none. */
  readonly revokeMinReplicas: number;
};

export type ServiceDependencies = SessionStores & {
  readonly validator: SessionValidator;
  readonly checkIpBinding: IpBindingCheck;
  readonly broadcaster: WatchBroadcaster;
  readonly defaults: SessionDefaults;
  readonly references: SessionReferences;
  /** The keys in force now; they change while the service runs. */
  readonly keyRing: () => TokenKeyRing;
  /** How long the evaluation of one request of a ValidateStream may take. */
  readonly requestTimeoutMs: number;
};
