// The one implementation of SessionService, put together from its variants.

import type { TokenKeyRing } from "../domain/token.ts";
import type { ChangeLog } from "../store/watch_change_log.ts";
import type { StoreClock } from "../store/store_clock.ts";
import { createSessionCreator } from "../store/create_session.ts";
import type { StoreDependencies } from "../store/dependencies.ts";
import { createDeviceSessionStore } from "../store/device_sessions.ts";
import { createHashSessionStore } from "../store/hash_sessions.ts";
import { createSecurityStore } from "../store/audit.ts";
import { createSessionStore } from "../store/simple_sessions.ts";
import { createSecureSessionStore } from "../store/secure_sessions.ts";
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

type SessionServiceDeps = {
  readonly store: StoreDependencies;
  readonly changes: ChangeLog;
  readonly hub: WatchBroadcaster;
  /** Renews a watcher that this process does not have; false: nobody has it. */
  readonly renewOnSibling?: RenewOnSibling | undefined;
  readonly clock: StoreClock;
  readonly defaults: SessionDefaults;
  /** The keys in force now; they change while the service runs. */
  readonly keyRing: () => TokenKeyRing;
  readonly requestTimeoutMs: number;
};

/** The methods, and those of them that also go from bytes to bytes. */
export type SessionService = { readonly methods: SessionServiceImpl; readonly encodedHandlers: EncodedHandlers };

export function createSessionService(deps: SessionServiceDeps): SessionService {
  const { store, changes, hub, renewOnSibling: renewElsewhere, clock, defaults, keyRing, requestTimeoutMs } = deps;
  const create = createSessionCreator(store);
  const sessions = createSessionStore(store);
  const tokens = createSecureSessionStore(store);
  const security = createSecurityStore(store);
  const checkIpBinding = createIpBindingCheck(sessions, security);
  const { touchIntervalMs } = store.settings;
  const validate = createValidator({ sessions, tokens, checkIpBinding, clock, keyRing, touchIntervalMs });
  const simple = createSimpleSessionService({ create, sessions, validate, checkIpBinding, defaults });
  const secure = createSecureSessionService({ create, tokens, validate, keyRing, defaults });
  const bulk = createBulkValidationService({ validate, requestTimeoutMs });
  return {
    methods: {
      ...simple.methods,
      ...createHashSessionService({ create, fields: createHashSessionStore(store), defaults }),
      ...secure.methods,
      ...createDeviceSessionService({ create, sessions, devices: createDeviceSessionStore(store), defaults }),
      ...createSecurityService({ sessions, security, keyRing }),
      ...createWatchService({ sessions, changes, broadcaster: hub, renewOnSibling: renewElsewhere, keyRing }),
      ...bulk.methods,
    },
    encodedHandlers: { ...simple.direct, ...secure.direct, ...bulk.direct },
  };
}
