// The one implementation of SessionService, put together from its variants.

import type { TokenKeyRing } from "../domain/token.ts";
import type { ChangeStore } from "../store/changes.ts";
import { createSessionCreator } from "../store/create.ts";
import type { StoreDeps } from "../store/deps.ts";
import { createDeviceStore } from "../store/devices.ts";
import { createFieldStore } from "../store/fields.ts";
import { createSecurityStore } from "../store/security.ts";
import { createSessionStore } from "../store/sessions.ts";
import { createTokenStore } from "../store/tokens.ts";
import type { WatchHub } from "../watch/hub.ts";
import type { SessionServiceImpl } from "./contract.ts";
import type { SessionDefaults } from "./create_request.ts";
import { createDevicesService } from "./devices.ts";
import { createFieldsService } from "./fields.ts";
import { createInvalidationsService } from "./invalidations.ts";
import { createIpBindingCheck } from "./ip_binding.ts";
import { createSecurityService } from "./security.ts";
import { createSessionsService } from "./sessions.ts";
import { createTokensService, createTouchIsDue } from "./tokens.ts";

type SessionServiceDeps = {
  readonly store: StoreDeps;
  readonly changes: ChangeStore;
  readonly hub: WatchHub;
  readonly defaults: SessionDefaults;
  /** The keys in force now; they change while the service runs. */
  readonly keyRing: () => TokenKeyRing;
};

export function createSessionService({
  store,
  changes,
  hub,
  defaults,
  keyRing,
}: SessionServiceDeps): SessionServiceImpl {
  const create = createSessionCreator(store);
  const sessions = createSessionStore(store);
  const security = createSecurityStore(store);
  const checkIpBinding = createIpBindingCheck(sessions, security);
  const touchIsDue = createTouchIsDue(store.settings.touchIntervalMs);
  return {
    ...createSessionsService({ create, sessions, checkIpBinding, defaults }),
    ...createFieldsService({ create, fields: createFieldStore(store), defaults }),
    ...createTokensService({
      create,
      sessions,
      tokens: createTokenStore(store),
      checkIpBinding,
      touchIsDue,
      keyRing,
      defaults,
    }),
    ...createDevicesService({ create, sessions, devices: createDeviceStore(store), defaults }),
    ...createSecurityService({ sessions, security, keyRing }),
    ...createInvalidationsService({ sessions, changes, hub, keyRing }),
  };
}
