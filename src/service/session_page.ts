// Lists a user's sessions page by page, for ListUserSessions and ListUserDevices.

import type { CallContext } from "../domain/call.ts";
import { ownerOf } from "../domain/owner.ts";
import { decodePageToken, encodePageToken } from "../domain/page_token.ts";
import type { SessionStore } from "../store/simple_sessions.ts";
import { sessionMessage } from "./session_message.ts";

/** The page size of a request that leaves it unset. */
export const DEFAULT_PAGE_SIZE = 50;

type PageRequest = { readonly userId: string; readonly pageSize: number; readonly pageToken: string };

/**
 * Returns one page of a user's live sessions, or of those on devices.
 *
 * @throws SessionError INVALID_REQUEST for a page token of another list.
 */
export async function listSessionPage(
  sessions: SessionStore,
  which: "all" | "devices",
  { userId, pageSize, pageToken }: PageRequest,
  call: CallContext,
) {
  const scope = `${which} ${ownerOf(call.principal.tenant, userId)}`;
  const after = decodePageToken(scope, pageToken);
  const page = await sessions.listOfUser(userId, which, after, pageSize || DEFAULT_PAGE_SIZE, call);
  const last = page.sessions.at(-1);
  return {
    sessions: page.sessions.map(sessionMessage),
    nextPageToken: page.more && last ? encodePageToken(scope, last.record.sessionId) : "",
  };
}
