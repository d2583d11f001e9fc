// Lists a user's sessions page by page, for ListUserSessions and ListUserDevices.

import { ListOrder } from "../../gen/session/v1/session_pb.ts";
import type { CallContext } from "../domain/call.ts";
import { ownerOf } from "../domain/owner.ts";
import { decodePageToken, encodePageToken } from "../domain/page_token.ts";
import { decodeSessionPosition, encodeSessionPosition } from "../domain/session_position.ts";
import type { SessionStore } from "../store/simple_sessions.ts";
import { sessionMessage } from "./session_message.ts";

/** The page size of a request that leaves it unset. */
export const DEFAULT_PAGE_SIZE = 50;

type PageRequest = {
  readonly userId: string;
  readonly pageSize: number;
  readonly pageToken: string;
  readonly order: ListOrder;
};

/**
 * Returns one page of a user's live sessions, or of those on devices.
 *
 * @throws SessionError INVALID_REQUEST for a page token of another list.
 */
export async function listSessionPage(
  sessions: SessionStore,
  which: "all" | "devices",
  { userId, pageSize, pageToken, order: requested }: PageRequest,
  call: CallContext,
) {
  const order = requested === ListOrder.NEWEST_FIRST ? "newest" : "oldest";
  const scope = `${which} ${order} ${ownerOf(call.principal.tenant, userId)}`;
  const position = decodePageToken(scope, pageToken);
  const after = position === "" ? undefined : decodeSessionPosition(position);
  const page = await sessions.listOfUser(
    userId,
    { which, order, after, pageSize: pageSize || DEFAULT_PAGE_SIZE },
    call,
  );
  const last = page.sessions.at(-1);
  const nextPosition = page.more && last ? encodeSessionPosition(last.record.createdExactMs) : undefined;
  return {
    sessions: page.sessions.map(sessionMessage),
    nextPageToken: nextPosition === undefined ? "" : encodePageToken(scope, nextPosition),
  };
}
