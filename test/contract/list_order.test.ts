// The order of the lists of a user's sessions: exact across regenerations, and newest first on request.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ListOrder } from "../../gen/session/v1/session_pb.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import type { AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { rounds } from "../helpers/rounds.ts";

const skip = redisServerMissing();
const ROUNDS = rounds({ quick: 30, all: 300, variable: "LIST_ROUNDS" });
const SESSIONS = 200;

let authorities: Authorities;
let client: AuthorityClient;

before(async () => {
  if (skip) return;
  authorities = await startAuthorities();
  client = authorities.clients[0]!;
});
after(async () => {
  if (skip) return;
  await authorities.assertStoreSound();
  await authorities.close();
});

/** Lists all sessions of a user in pages, and calls `between` after each page. */
async function list(userId: string, order: ListOrder, between: () => Promise<unknown> = () => Promise.resolve()) {
  const ids: string[] = [];
  for (let pageToken = ""; ;) {
    const page = await client.listUserSessions({ userId, pageSize: 50, pageToken, order });
    ids.push(...page.sessions.map((session) => session.sessionId));
    pageToken = page.nextPageToken;
    if (pageToken === "") return ids;
    await between();
  }
}

describe("a list of a user's sessions", { skip }, () => {
  test(`lists 1: has a session that is regenerated between two pages exactly once, in ${ROUNDS} rounds`, async () => {
    const userId = "regenerates";
    const current: string[] = [];
    for (let n = 0; n < SESSIONS; n++) current.push((await client.createSession({ userId })).session!.sessionId);
    for (let round = 0; round < ROUNDS; round++) {
      // Every id that a session has had in this round leads to the session.
      const names = new Map(current.map((id, name) => [id, name]));
      const order = round % 2 === 0 ? ListOrder.UNSPECIFIED : ListOrder.NEWEST_FIRST;
      const ids = await list(userId, order, async () => {
        const name = Math.floor(Math.random() * SESSIONS);
        const { session } = await client.regenerateSession({ sessionId: current[name]! });
        names.set((current[name] = session!.sessionId), name);
      });
      const listed = ids.map((id) => names.get(id)!);
      const expected = Array.from({ length: SESSIONS }, (_, name) => name);
      assert.deepEqual(listed, order === ListOrder.NEWEST_FIRST ? expected.toReversed() : expected);
    }
  });

  test("lists 2: is newest first on request, and its page tokens belong to this order", async () => {
    const userId = "newest";
    const ids: string[] = [];
    for (let n = 0; n < 60; n++) ids.push((await client.createSession({ userId })).session!.sessionId);
    assert.deepEqual(await list(userId, ListOrder.NEWEST_FIRST), ids.toReversed());
    assert.deepEqual(await list(userId, ListOrder.UNSPECIFIED), ids);
    const { nextPageToken: pageToken } = await client.listUserSessions({ userId });
    await assert.rejects(client.listUserSessions({ userId, pageToken, order: ListOrder.NEWEST_FIRST }), {
      fields: ["page_token"],
    });
  });
});
