// Lists the sessions of a tenant without its index: walks the users of all partitions, in the order of their hashes.

import { hash } from "node:crypto";
import type { CallDeadline } from "../domain/call.ts";
import { invalidField } from "../domain/errors.ts";
import { ownerOf, ownerPrefixOf, partitionOfOwner, PARTITION_COUNT } from "../domain/owner.ts";
import { decodeSessionPosition, encodeSessionPosition } from "../domain/session_position.ts";
import type { StoreDependencies } from "./dependencies.ts";
import { partitionKeys } from "./keys.ts";
import { readUserSessions, type SessionPage } from "./session_lists.ts";
import type { TenantSession } from "./stored_session.ts";

/** A place in the list: a user by the hash of its owner, and when a session of that user was created. */
type WalkPosition = { readonly partition: number; readonly user: string; readonly session: number };

type WalkOptions = {
  readonly tenant: string;
  /** Undefined: all users of the tenant. */
  readonly userIds: readonly string[] | undefined;
  readonly after: WalkPosition | undefined;
};
type WalkDependencies = Pick<StoreDependencies, "connection" | "scripts">;
type User = { readonly owner: string; readonly mark: string };

const USERS_PER_ROUND = 32;
const SESSIONS_PER_PAGE = 50;
/** Base64url characters of the owner's hash: 96 bits, so no two owners of a store have the same. */
const MARK_LENGTH = 16;
const POSITION = new RegExp(`^w([A-Za-z0-9_-]{2})([A-Za-z0-9_-]{${MARK_LENGTH}})([A-Za-z0-9_-]+)$`);

/** Yields the live sessions of a tenant. */
export async function* walkUsers(
  store: WalkDependencies,
  { tenant, userIds, after }: WalkOptions,
  call: CallDeadline,
): AsyncGenerator<TenantSession, void, undefined> {
  const given = userIds && Map.groupBy(new Set(userIds.map((id) => ownerOf(tenant, id))), partitionOfOwner);
  for (let partition = after?.partition ?? 0; partition < PARTITION_COUNT; partition++) {
    const start = partition === after?.partition ? after : undefined;
    const owners = given ? (given.get(partition) ?? []) : await ownersOf(store, partition, tenant, call);
    const users = inOrder(owners);
    const rest = users.filter(({ mark }) => start === undefined || mark >= start.user);
    for (let i = 0; i < rest.length; i += USERS_PER_ROUND) {
      yield* sessionsOf(store, partition, rest.slice(i, i + USERS_PER_ROUND), start, call);
    }
  }
}

/** Yields the sessions of users whose first pages are read together. */
async function* sessionsOf(
  { scripts }: WalkDependencies,
  partition: number,
  users: readonly User[],
  start: WalkPosition | undefined,
  call: CallDeadline,
): AsyncGenerator<TenantSession, void, undefined> {
  function read(owner: string, after: number | undefined): Promise<SessionPage> {
    const options = { which: "all", order: "oldest", after, pageSize: SESSIONS_PER_PAGE } as const;
    return readUserSessions(scripts, owner, options, call);
  }

  const firstPages = await Promise.all(
    users.map(({ owner, mark }) => read(owner, mark === start?.user ? start.session : undefined)),
  );
  for (const [i, { owner, mark }] of users.entries()) {
    for (let page = firstPages[i]!; ; page = await read(owner, page.sessions.at(-1)!.record.createdExactMs)) {
      for (const stored of page.sessions) {
        const session = stored.record.createdExactMs;
        yield { stored, position: encodeWalkPosition({ partition, user: mark, session }) };
      }
      if (!page.more) break;
    }
  }
}

/** Reads the owners of a tenant that have sessions in a partition. One that has a session all the time is among them. */
async function ownersOf(
  { connection }: WalkDependencies,
  partition: number,
  tenant: string,
  call: CallDeadline,
): Promise<Set<string>> {
  const key = partitionKeys(partition)[0];
  const prefix = ownerPrefixOf(tenant);
  const owners = new Set<string>();
  let cursor = "0";
  do {
    const reply = await connection.send(key, ["ZSCAN", key, cursor, "COUNT", "1000"], call);
    const [next, members] = reply as [Buffer, Buffer[]];
    for (let i = 0; i < members.length; i += 2) {
      const owner = String(members[i]);
      if (owner.startsWith(prefix)) owners.add(owner);
    }
    cursor = String(next);
  } while (cursor !== "0");
  return owners;
}

function inOrder(owners: Iterable<string>): User[] {
  const users = [...owners].map((owner) => ({ owner, mark: hash("sha256", owner, "base64url").slice(0, MARK_LENGTH) }));
  return users.toSorted((a, b) => (a.mark < b.mark ? -1 : 1));
}

function encodeWalkPosition({ partition, user, session }: WalkPosition): string {
  return `w${Buffer.of(partition).toString("base64url")}${user}${encodeSessionPosition(session)}`;
}

/** @throws SessionError INVALID_REQUEST for a text that is no position; an empty one is the beginning. */
export function decodeWalkPosition(text: string): WalkPosition | undefined {
  if (text === "") return undefined;
  const [, partition, user, session] = POSITION.exec(text) ?? [];
  if (partition === undefined) throw invalidField("page_token", "is not a next_page_token of this list");
  return {
    partition: Buffer.from(partition, "base64url")[0]!,
    user: user!,
    session: decodeSessionPosition(session!),
  };
}
