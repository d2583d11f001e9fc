// Assembles the implementation of SessionService from its families of methods.

import { createAdminService } from "./admin.ts";
import { createAuditService } from "./audit.ts";
import { createBulkValidationService } from "./bulk_validation.ts";
import type { ServiceDependencies } from "./dependencies.ts";
import { createDeviceSessionService } from "./device_sessions.ts";
import type { EncodedHandlers, SessionServiceImpl } from "./handlers.ts";
import { createHashSessionService } from "./hash_sessions.ts";
import { createRegenerationService } from "./regeneration.ts";
import { createSecureSessionService } from "./secure_sessions.ts";
import { createSessionReferences } from "./session_references.ts";
import { createSessionUpdateService } from "./session_updates.ts";
import { createSimpleSessionService } from "./simple_sessions.ts";
import { createIpBindingCheck } from "./validation/ip_binding.ts";
import { SessionValidator, type ValidatorDependencies } from "./validation/validator.ts";
import { createWatchService } from "./watch.ts";

/** The handlers of all methods, and the encoded handlers of the most frequent ones. */
export type SessionService = { readonly methods: SessionServiceImpl; readonly encodedHandlers: EncodedHandlers };

export function createSessionService(
  given: Omit<ServiceDependencies & ValidatorDependencies, "validator" | "checkIpBinding" | "references">,
): SessionService {
  const checkIpBinding = createIpBindingCheck(given);
  const validator = new SessionValidator({ ...given, checkIpBinding });
  const references = createSessionReferences(given.keyRing);
  const dependencies = { ...given, checkIpBinding, validator, references };
  const simple = createSimpleSessionService(dependencies);
  const secure = createSecureSessionService(dependencies);
  const bulk = createBulkValidationService(dependencies);
  return {
    methods: {
      ...simple.methods,
      ...createHashSessionService(dependencies),
      ...secure.methods,
      ...createDeviceSessionService(dependencies),
      ...createRegenerationService(dependencies),
      ...createSessionUpdateService(dependencies),
      ...createAdminService(dependencies),
      ...createAuditService(dependencies),
      ...createWatchService(dependencies),
      ...bulk.methods,
    },
    encodedHandlers: { ...simple.encodedHandlers, ...secure.encodedHandlers, ...bulk.encodedHandlers },
  };
}
