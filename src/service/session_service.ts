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
import type { SessionServiceImpl } from "./contract.ts";
import type { SessionDefaults } from "./create_request.ts";
import { createDevicesService } from "./devices.ts";
import { createFieldsService } from "./fields.ts";
import { createInvalidationsService } from "./invalidations.ts";
import { createIpBindingCheck } from "./ip_binding.ts";
import { createSecurityService } from "./security.ts";
import { createSessionsService } from "./sessions.ts";
import { createTokensService } from "./tokens.ts";
import { createValidator } from "./validator.ts";

type SessionServiceDeps = {
  readonly store: StoreDeps;
  readonly changes: ChangeStore;
  readonly hub: WatchHub;
  readonly clock: StoreClock;
  readonly defaults: SessionDefaults;
  /** The keys in force now; they change while the service runs. */
  readonly keyRing: () => TokenKeyRing;
  readonly requestTimeoutMs: number;
};

export function createSessionService(deps: SessionServiceDeps): SessionServiceImpl {
  const { store, changes, hub, clock, defaults, keyRing, requestTimeoutMs } = deps;
  const create = createSessionCreator(store);
  const sessions = createSessionStore(store);
  const tokens = createTokenStore(store);
  const security = createSecurityStore(store);
  const checkIpBinding = createIpBindingCheck(sessions, security);
  const { touchIntervalMs } = store.settings;
  const validator = createValidator({ sessions, tokens, checkIpBinding, clock, keyRing, touchIntervalMs });
  return {
    ...createSessionsService({ create, sessions, validator, checkIpBinding, defaults }),
    ...createFieldsService({ create, fields: createFieldStore(store), defaults }),
    ...createTokensService({ create, tokens, validator, keyRing, defaults }),
    ...createDevicesService({ create, sessions, devices: createDeviceStore(store), defaults }),
    ...createSecurityService({ sessions, security, keyRing }),
    ...createInvalidationsService({ sessions, changes, hub, keyRing }),
    ...createBulkService({ validator, requestTimeoutMs }),
  };
}
