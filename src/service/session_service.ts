// The one implementation of SessionService, put together from its variants.

import type { TokenKeyRing } from "../domain/token.ts";
import type { ChangeLog } from "../store/watch_change_log.ts";
import type { StoreClock } from "../store/store_clock.ts";
import type { SessionCreator } from "../store/create_session.ts";
import type { DeviceSessionStore } from "../store/device_sessions.ts";
import type { HashSessionStore } from "../store/hash_sessions.ts";
import type { SecurityStore } from "../store/audit.ts";
import type { SessionStore } from "../store/simple_sessions.ts";
import type { SecureSessionStore } from "../store/secure_sessions.ts";
import type { WatchBroadcaster } from "../watch/broadcaster.ts";
import { createBulkValidationService } from "./bulk_validation.ts";
import type { EncodedHandlers, SessionServiceImpl } from "./handlers.ts";
import type { SessionDefaults } from "./new_session.ts";
import { createDeviceSessionService } from "./device_sessions.ts";
import { createHashSessionService } from "./hash_sessions.ts";
import { createWatchService, type RenewOnSibling } from "./watch.ts";
import { createIpBindingCheck } from "./validation/ip_binding.ts";
import { createSecurityService } from "./audit.ts";
import { createSimpleSessionService } from "./simple_sessions.ts";
import { createSecureSessionService } from "./secure_sessions.ts";
import { createValidator } from "./validation/validator.ts";

export type SessionStores = {
  readonly create: SessionCreator;
  readonly sessions: SessionStore;
  readonly hashSessions: HashSessionStore;
  readonly secureSessions: SecureSessionStore;
  readonly deviceSessions: DeviceSessionStore;
  readonly security: SecurityStore;
};

type SessionServiceDeps = {
  readonly stores: SessionStores;
  readonly changes: ChangeLog;
  readonly hub: WatchBroadcaster;
  /** Renews a watcher that this process does not have; false: nobody has it. */
  readonly renewOnSibling?: RenewOnSibling | undefined;
  readonly clock: StoreClock;
  readonly defaults: SessionDefaults;
  /** The keys in force now; they change while the service runs. */
  readonly keyRing: () => TokenKeyRing;
  readonly touchIntervalMs: number | undefined;
  readonly requestTimeoutMs: number;
};

/** The methods, and those of them that also go from bytes to bytes. */
export type SessionService = { readonly methods: SessionServiceImpl; readonly encodedHandlers: EncodedHandlers };

export function createSessionService(deps: SessionServiceDeps): SessionService {
  const { stores, changes, hub, renewOnSibling, clock, defaults, keyRing, touchIntervalMs, requestTimeoutMs } = deps;
  const { create, sessions, secureSessions: tokens, hashSessions, deviceSessions, security } = stores;
  const checkIpBinding = createIpBindingCheck(sessions, security);
  const validate = createValidator({ sessions, tokens, checkIpBinding, clock, keyRing, touchIntervalMs });
  const simple = createSimpleSessionService({ create, sessions, validate, checkIpBinding, defaults });
  const secure = createSecureSessionService({ create, tokens, validate, keyRing, defaults });
  const bulk = createBulkValidationService({ validate, requestTimeoutMs });
  return {
    methods: {
      ...simple.methods,
      ...createHashSessionService({ create, fields: hashSessions, defaults }),
      ...secure.methods,
      ...createDeviceSessionService({ create, sessions, devices: deviceSessions, defaults }),
      ...createSecurityService({ sessions, security, keyRing }),
      ...createWatchService({ sessions, changes, hub, renewOnSibling, keyRing }),
      ...bulk.methods,
    },
    encodedHandlers: { ...simple.direct, ...secure.direct, ...bulk.direct },
  };
}
