// Reads a user's live sessions page by page.

import type { CallDeadline } from "../domain/call.ts";
import { userScriptKeys } from "./keys.ts";
import type { Scripts } from "./scripts.ts";
import { storedSessionFromReply, type StoredSession } from "./stored_session.ts";

/** The order of creation, or against it. */
export type ListOrder = "oldest" | "newest";

export type UserListOptions = {
  readonly which: "all" | "devices";
  readonly order: ListOrder;
  /** When the last session of the page before was created, in ms with a fraction; undefined for the first page. */
  readonly after: number | undefined;
  readonly pageSize: number;
};

/** One page of sessions; `more` if there are sessions after it. */
export type SessionPage = { readonly sessions: StoredSession[]; readonly more: boolean };

/** A page ends with the session that exceeds this. */
const PAGE_BYTES = 1024 * 1024;

/**
 * Reads a page of a user's live sessions, or only of those on devices. A session that is alive during the whole listing is
 * on exactly one page, even if it is regenerated in the meantime.
 */
export async function readUserSessions(
  scripts: Scripts,
  owner: string,
  { which, order, after, pageSize }: UserListOptions,
  call: CallDeadline,
): Promise<SessionPage> {
  const args = [order, String(after ?? ""), String(pageSize), String(PAGE_BYTES), which];
  // 1 if there are more sessions, then session_id, record and fields of each.
  const [more, ...rest] = (await scripts.run("simple_sessions_list", userScriptKeys(owner), args, call)).values;
  const sessions: StoredSession[] = [];
  for (let i = 0; i < rest.length; i += 3) sessions.push(storedSessionFromReply(rest.slice(i, i + 3)));
  return { sessions, more: Number(more) === 1 };
}
