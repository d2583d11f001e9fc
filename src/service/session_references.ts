// Who sees which session ids: a caller without the scope `read` receives references in place of the ids that open sessions.

import type { CallContext } from "../domain/call.ts";
import { sessionIdOfReference, sessionReference } from "../domain/session_reference.ts";
import type { TokenKeyRing } from "../domain/token.ts";
import type { Opener } from "../store/dependencies.ts";

export type SessionReferences = ReturnType<typeof createSessionReferences>;

type Caller = Pick<CallContext, "principal">;

export function createSessionReferences(keyRing: () => TokenKeyRing) {
  return {
    /** Returns true if the caller receives references. */
    areForCaller: ({ principal }: Caller): boolean => !principal.scopes.has("read"),

    /** Returns the id of a session as the caller may see it. */
    visibleId(sessionId: string, opener: Opener, { principal }: Caller): string {
      if (sessionId === "" || opener === "token" || principal.scopes.has("read")) return sessionId;
      return sessionReference(keyRing(), principal.tenant, sessionId);
    },

    /** Returns the session id that a request names by itself or by a reference; a text that is neither names no session. */
    idOf(idOrReference: string, { principal }: Caller): string {
      return sessionIdOfReference(keyRing(), principal.tenant, idOrReference) ?? idOrReference;
    },
  };
}
