// The one implementation of SessionService, put together from its variants.

import type { TokenKeyRing } from "../domain/token.ts";
import type { ChangeStore } from "../store/watch_change_log.ts";
import type { StoreClock } from "../store/store_clock.ts";
import { createSessionCreator } from "../store/create_session.ts";
import type { StoreDeps } from "../store/dependencies.ts";
import { createDeviceStore } from "../store/device_sessions.ts";
import { createFieldStore } from "../store/hash_sessions.ts";
import { createSecurityStore } from "../store/audit.ts";
import { createSessionStore } from "../store/simple_sessions.ts";
import { createTokenStore } from "../store/secure_sessions.ts";
import type { WatchHub } from "../watch/broadcaster.ts";
import { createBulkService } from "./bulk_validation.ts";
import type { DirectImpl, SessionServiceImpl } from "./handlers.ts";
import type { SessionDefaults } from "./new_session.ts";
import { createDevicesService } from "./device_sessions.ts";
import { createFieldsService } from "./hash_sessions.ts";
import { createInvalidationsService, type RenewElsewhere } from "./watch.ts";
import { createIpBindingCheck } from "./validation/ip_binding.ts";
import { createSecurityService } from "./audit.ts";
import { createSessionsService } from "./simple_sessions.ts";
import { createTokensService } from "./secure_sessions.ts";
import { createValidator } from "./validation/validator.ts";

type SessionServiceDeps = {
  readonly store: StoreDeps;
  readonly changes: ChangeStore;
  readonly hub: WatchHub;
  /** Renews a watcher that this process does not have; false: nobody has it. */
  readonly renewElsewhere?: RenewElsewhere | undefined;
  readonly clock: StoreClock;
  readonly defaults: SessionDefaults;
  /** The keys in force now; they change while the service runs. */
  readonly keyRing: () => TokenKeyRing;
  readonly requestTimeoutMs: number;
};

/** The methods, and those of them that also go from bytes to bytes. */
export type SessionService = { readonly methods: SessionServiceImpl; readonly direct: DirectImpl };

export function createSessionService(deps: SessionServiceDeps): SessionService {
  const { store, changes, hub, renewElsewhere, clock, defaults, keyRing, requestTimeoutMs } = deps;
  const create = createSessionCreator(store);
  const sessions = createSessionStore(store);
  const tokens = createTokenStore(store);
  const security = createSecurityStore(store);
  const checkIpBinding = createIpBindingCheck(sessions, security);
  const { touchIntervalMs } = store.settings;
  const validate = createValidator({ sessions, tokens, checkIpBinding, clock, keyRing, touchIntervalMs });
  const simple = createSessionsService({ create, sessions, validate, checkIpBinding, defaults });
  const secure = createTokensService({ create, tokens, validate, keyRing, defaults });
  const bulk = createBulkService({ validate, requestTimeoutMs });
  return {
    methods: {
      ...simple.methods,
      ...createFieldsService({ create, fields: createFieldStore(store), defaults }),
      ...secure.methods,
      ...createDevicesService({ create, sessions, devices: createDeviceStore(store), defaults }),
      ...createSecurityService({ sessions, security, keyRing }),
      ...createInvalidationsService({ sessions, changes, hub, renewElsewhere, keyRing }),
      ...bulk.methods,
    },
    direct: { ...simple.direct, ...secure.direct, ...bulk.direct },
  };
}
