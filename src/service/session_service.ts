// The one implementation of SessionService, put together from its variants.

import type { TokenKeyRing } from "../domain/token.ts";
import type { ChangeStore } from "../store/changes.ts";
import type { StoreClock } from "../store/clock.ts";
import { createSessionCreator } from "../store/create.ts";
import type { StoreDeps } from "../store/deps.ts";
import { createDeviceStore } from "../store/devices.ts";
import { createFieldStore } from "../store/fields.ts";
import { createSecurityStore } from "../store/security.ts";
import { createSessionStore } from "../store/sessions.ts";
import { createTokenStore } from "../store/tokens.ts";
import type { WatchHub } from "../watch/hub.ts";
import { createBulkService } from "./bulk.ts";
import type { DirectImpl, SessionServiceImpl } from "./contract.ts";
import type { SessionDefaults } from "./create_request.ts";
import { createDevicesService } from "./devices.ts";
import { createFieldsService } from "./fields.ts";
import { createInvalidationsService, type RenewElsewhere } from "./invalidations.ts";
import { createIpBindingCheck } from "./ip_binding.ts";
import { createSecurityService } from "./security.ts";
import { createSessionsService } from "./sessions.ts";
import { createTokensService } from "./tokens.ts";
import { createValidator } from "./validator.ts";

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
