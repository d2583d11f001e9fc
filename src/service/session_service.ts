// Assembles the implementation of SessionService from its families of methods.

import type { TokenKeyRing } from "../domain/token.ts";
import type { AuditStore } from "../store/audit.ts";
import type { SessionCreator } from "../store/create_session.ts";
import type { DeviceSessionStore } from "../store/device_sessions.ts";
import type { HashSessionStore } from "../store/hash_sessions.ts";
import type { IpBindingStore } from "../store/ip_binding.ts";
import type { RegenerationStore } from "../store/regeneration.ts";
import type { SecureSessionStore } from "../store/secure_sessions.ts";
import type { SessionStore } from "../store/simple_sessions.ts";
import type { StoreClock } from "../store/store_clock.ts";
import type { SweepStore } from "../store/sweep.ts";
import type { ChangeLog } from "../store/watch_change_log.ts";
import type { WatchBroadcaster } from "../watch/broadcaster.ts";
import { createAuditService } from "./audit.ts";
import { createBulkValidationService } from "./bulk_validation.ts";
import { createDeviceSessionService } from "./device_sessions.ts";
import type { EncodedHandlers, SessionServiceImpl } from "./handlers.ts";
import { createHashSessionService } from "./hash_sessions.ts";
import type { SessionDefaults } from "./new_session.ts";
import { createRegenerationService } from "./regeneration.ts";
import { createSecureSessionService } from "./secure_sessions.ts";
import { createSimpleSessionService } from "./simple_sessions.ts";
import { createIpBindingCheck } from "./validation/ip_binding.ts";
import { SessionValidator } from "./validation/validator.ts";
import { createWatchService, type RenewOnSibling } from "./watch.ts";

/** The operations of the store, one entry for each of its families. */
export type SessionStores = {
  readonly create: SessionCreator;
  readonly sessions: SessionStore;
  readonly hashSessions: HashSessionStore;
  readonly secureSessions: SecureSessionStore;
  readonly deviceSessions: DeviceSessionStore;
  readonly regeneration: RegenerationStore;
  readonly audit: AuditStore;
  readonly ipBinding: IpBindingStore;
  readonly sweep: SweepStore;
  readonly changes: ChangeLog;
};

type SessionServiceDeps = {
  readonly stores: SessionStores;
  readonly clock: StoreClock;
  readonly broadcaster: WatchBroadcaster;
  /** Renews a watcher of another worker. Returns false if no worker has it. */
  readonly renewOnSibling?: RenewOnSibling | undefined;
  readonly defaults: SessionDefaults;
  /** The keys in force now; they change while the service runs. */
  readonly keyRing: () => TokenKeyRing;
  /** Accesses closer together than this slide the timeout once. Undefined: idle timeout / 100, at most 60 s. */
  readonly touchIntervalMs: number | undefined;
  /** How long the evaluation of one request of a ValidateStream may take. */
  readonly requestTimeoutMs: number;
};

/** The handlers of all methods, and the encoded handlers of the most frequent ones. */
export type SessionService = { readonly methods: SessionServiceImpl; readonly encodedHandlers: EncodedHandlers };

export function createSessionService(deps: SessionServiceDeps): SessionService {
  const { stores, clock, broadcaster, renewOnSibling, defaults, keyRing, touchIntervalMs, requestTimeoutMs } = deps;
  const { create, sessions, hashSessions, secureSessions, deviceSessions } = stores;
  const { regeneration, audit, ipBinding, sweep, changes } = stores;
  const checkIpBinding = createIpBindingCheck({ sessions, ipBinding });
  const validator = new SessionValidator({ sessions, secureSessions, checkIpBinding, clock, keyRing, touchIntervalMs });
  const simple = createSimpleSessionService({ create, sessions, validator, checkIpBinding, defaults });
  const secure = createSecureSessionService({ create, secureSessions, validator, keyRing, defaults });
  const bulk = createBulkValidationService({ validator, requestTimeoutMs });
  return {
    methods: {
      ...simple.methods,
      ...createHashSessionService({ create, hashSessions, defaults }),
      ...secure.methods,
      ...createDeviceSessionService({ create, sessions, deviceSessions, defaults }),
      ...createRegenerationService({ regeneration, keyRing }),
      ...createAuditService({ audit, sweep }),
      ...createWatchService({ sessions, changes, broadcaster, renewOnSibling, keyRing }),
      ...bulk.methods,
    },
    encodedHandlers: { ...simple.encodedHandlers, ...secure.encodedHandlers, ...bulk.encodedHandlers },
  };
}
