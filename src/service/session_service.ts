// The one implementation of SessionService, put together from its variants.

import type { TokenKeyRing } from "../domain/token.ts";
import { createSessionCreator } from "../store/create.ts";
import type { StoreDeps } from "../store/deps.ts";
import { createDeviceStore } from "../store/devices.ts";
import { createFieldStore } from "../store/fields.ts";
import { createSecurityStore } from "../store/security.ts";
import { createSessionStore } from "../store/sessions.ts";
import { createTokenStore } from "../store/tokens.ts";
import type { SessionServiceImpl } from "./contract.ts";
import type { SessionDefaults } from "./create_request.ts";
import { createDevicesService } from "./devices.ts";
import { createFieldsService } from "./fields.ts";
import { createIpBindingCheck } from "./ip_binding.ts";
import { createSecurityService } from "./security.ts";
import { createSessionsService } from "./sessions.ts";
import { createTokensService, createTouchIsDue } from "./tokens.ts";

export function createSessionService(
  store: StoreDeps,
  defaults: SessionDefaults,
  keyRing: () => TokenKeyRing,
): SessionServiceImpl {
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
  };
}
